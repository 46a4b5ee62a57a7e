#!/bin/sh
# Sign in to Supabase with email and password, and print the access token.
#
#   ./get_token.sh
#   export JWT_TOKEN=$(./get_token.sh)
#
# SUPABASE_URL and SUPABASE_ANON_KEY come from the environment, or else from the .env beside this directory. Asks for
# EMAIL and PASSWORD if they are not in the environment.
set -eu

# setting NAME: its value in that .env, without quotes around it or a comment after it.
setting() {
    file="$(dirname "$0")/../.env"
    [ ! -r "$file" ] || tr -d '\r' < "$file" |
        sed -n "s/^[[:blank:]]*\(export[[:blank:]]\{1,\}\)\{0,1\}$1[[:blank:]]*=[[:blank:]]*//p" | tail -n 1 |
        sed -e "s/^\"\([^\"]*\)\".*/\1/" -e t -e "s/^'\([^']*\)'.*/\1/" -e t -e 's/[[:blank:]]#.*//' -e 's/[[:blank:]]*$//'
}

: "${SUPABASE_URL:=$(setting SUPABASE_URL)}"
: "${SUPABASE_ANON_KEY:=$(setting SUPABASE_ANON_KEY)}"
: "${SUPABASE_URL:?set SUPABASE_URL to the URL of your project}"
: "${SUPABASE_ANON_KEY:?set SUPABASE_ANON_KEY to the anon key of your project}"

if [ -z "${EMAIL:-}" ]; then
    printf 'Email: ' >&2
    read -r EMAIL
fi
if [ -z "${PASSWORD:-}" ]; then
    printf 'Password: ' >&2
    trap 'stty echo 2>/dev/null || true' EXIT
    stty -echo 2>/dev/null || true
    read -r PASSWORD
    printf '\n' >&2
fi
export EMAIL PASSWORD

# The password is passed through a pipe, since every user of this machine can read arguments.
answer=$(
    python3 -c 'import json, os; print(json.dumps({"email": os.environ["EMAIL"], "password": os.environ["PASSWORD"]}))' |
        curl --silent --show-error --max-time 30 "${SUPABASE_URL%/}/auth/v1/token?grant_type=password" \
            --header "apikey: ${SUPABASE_ANON_KEY}" --header "Content-Type: application/json" --data-binary @-
)
printf '%s' "$answer" | python3 -c '
import json, sys

try:
    answer = json.load(sys.stdin)
except ValueError:
    answer = {}
if "access_token" not in answer:
    sys.exit("get_token.sh: no token: " + (answer.get("msg") or answer.get("message") or "SUPABASE_URL does not answer like Supabase Auth"))
print(answer["access_token"])
'
