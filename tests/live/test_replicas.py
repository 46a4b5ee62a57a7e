"""Three replicas behind a real nginx share each user's limit through Redis."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from lab.server import Server, free_port, serve, token

LIMIT, CALLS, REPLICAS = 20, 60, 3
USER = "6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a0077"
CONFIGURATION = """
daemon off;
pid {directory}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream replicas {{ {servers} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://replicas; }}
    }}
}}
"""


@contextmanager
def nginx(directory: Path, replicas: Sequence[Server]) -> Iterator[str]:
    """URL of an nginx that takes turns between `replicas`."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program, "nginx is not installed. On Debian: apt-get install nginx-light"
    port, file = free_port(), directory / "nginx.conf"
    servers = " ".join(f"server {httpx.URL(replica.url).netloc.decode()};" for replica in replicas)
    file.write_text(CONFIGURATION.format(directory=directory, servers=servers, port=port))
    with subprocess.Popen([program, "-c", str(file), "-p", str(directory)]) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url)
        yield url
        process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            httpx.get(f"{url}/livez")
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "nginx did not start"
            time.sleep(0.05)


def test_replicas_admit_exactly_the_limit_between_them(
    tmp_path: Path, model_store: Path, redis_url: str
) -> None:
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "REDIS_URL": redis_url,
        "RATE_LIMIT_PER_MIN": str(LIMIT),
    }
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(serve(tmp_path / f"log-{i}", environment)) for i in range(REPLICAS)
        ]
        url = stack.enter_context(nginx(tmp_path, replicas))
        client = stack.enter_context(
            httpx.Client(timeout=60, headers={"Authorization": f"Bearer {token(USER)}"})
        )
        with ThreadPoolExecutor(16) as pool:
            calls = [
                pool.submit(client.post, f"{url}/embed", json={"text": "a"}) for _ in range(CALLS)
            ]
        statuses = Counter(call.result().status_code for call in calls)
        assert statuses == {200: LIMIT, 429: CALLS - LIMIT}
        served = [replica.log().count('"/embed"') for replica in replicas]
        assert all(served), f"a replica had no part in it: {served}"
