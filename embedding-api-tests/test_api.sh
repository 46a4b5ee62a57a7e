#!/bin/sh
# Call the main routes once, and print which ones work.
#
#   JWT_TOKEN=... ./test_api.sh [http://127.0.0.1:8000]
set -eu

: "${JWT_TOKEN:?set JWT_TOKEN to an access token: ./get_token.sh prints one}"
url=${1:-http://127.0.0.1:8000}
failed=0

# check STATUS METHOD PATH [BODY]: send a request and compare the status of the answer.
check() {
    status=$(curl --silent --output /dev/null --write-out '%{http_code}' --max-time 60 --request "$2" "$url$3" \
        --header "Authorization: Bearer ${token-}" ${4:+--header "Content-Type: application/json" --data "$4"}) || true
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
