# The image of bulk-rayjob.yaml: podman build -f deploy/kubernetes/bulk.Dockerfile -t REGISTRY/embedding-api-bulk .
# Before: `make native-linux`. Its Ray must be the one of requirements/bulk.txt.
FROM rayproject/ray:2.60.0-py311
WORKDIR /app
COPY requirements/bulk.txt .
RUN pip install --no-cache-dir --no-deps --require-hashes -r bulk.txt
COPY environment.py model_settings.py setting_types.py settings.py ./
COPY embedder embedder
COPY jobs jobs
ENV PYTHONPATH=/app BENTOML_HOME=/models BENTOML_DO_NOT_TRACK=true RAY_USAGE_STATS_ENABLED=0
