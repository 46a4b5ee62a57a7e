"""Development tokens: access tokens like those of Supabase, signed with the secret of `.env`.

python -m dev.token [USER_ID]
"""

import sys

from container.development import development_token
from settings import load_settings

if __name__ == "__main__":
    print(development_token(load_settings(), *sys.argv[1:2]))
