#!/bin/sh
# Call the main routes once, and print which ones work. Spends 9 requests of the user's limit.
#
#   ./test_api.sh [http://127.0.0.1:8000]
#
# Takes the access token from JWT_TOKEN, or signs in as get_token.sh does.
# When the requests of a minute are spent, curl says so and waits as long as Retry-After says. It does not wait for the
# next day, when tokens are spent.
set -eu

[ -n "${JWT_TOKEN:-}" ] || JWT_TOKEN=$("$(dirname "$0")/get_token.sh") || {
    echo "test_api.sh: or set JWT_TOKEN to an access token" >&2
    exit 1
}
url=${1:-http://127.0.0.1:8000}
failed=0

# check STATUS METHOD PATH [BODY]: send a request and compare the status of the answer.
check() {
    # The last line of the output: curl cannot try again with /dev/null as its output.
    status=$(curl --no-progress-meter --retry 2 --retry-max-time 90 --write-out '\n%{http_code}' --max-time 60 \
        --request "$2" "$url$3" --header "Authorization: Bearer ${token-}" \
        ${4:+--header "Content-Type: application/json" --data "$4"} | tail -n 1)
    if [ "$status" = "$1" ]; then
        echo "ok   $2 $3 $status"
    else
        echo "FAIL $2 $3 $status instead of $1"
        failed=1
    fi
}

check 200 GET /health
check 401 POST /embed '{"text": "without a token"}'
token=$JWT_TOKEN
check 200 POST /embed '{"text": "안녕하세요, 반갑습니다!"}'
check 200 POST /batch-embed '{"texts": ["첫 번째", "두 번째", "세 번째"]}'
check 200 POST /tokenize '{"texts": ["How many tokens is this?"]}'
check 200 POST /similarity '{"text": "a guitar", "texts": ["an instrument", "the stock market"]}'
check 422 POST /embed '{}'
check 200 GET /v1/models
model=$(curl --silent "$url/v1/models" --header "Authorization: Bearer $token" | sed 's/.*"data":\[{"id":"\([^"]*\)".*/\1/')
check 200 POST /v1/embeddings "{\"model\": \"$model\", \"input\": \"hello\"}"
check 200 POST /v2/embed "{\"model\": \"$model\", \"texts\": [\"hello\"]}"
check 200 POST /api/embed "{\"model\": \"$model\", \"input\": \"hello\"}"
check 200 POST /tei/embed '{"inputs": "hello"}'
check 200 GET /usage
exit $failed
