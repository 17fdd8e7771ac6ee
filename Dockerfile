# The image of every component in docker-compose.yaml and of Airflow's Helm chart, which needs the entry point of Airflow's own
# image. It was never built by us, because no container engine was at hand.
FROM apache/airflow:slim-3.3.2-python3.11 AS build
WORKDIR /tmp/src
COPY --chown=airflow:0 pyproject.toml README.md LICENSE requirements.lock ./
COPY --chown=airflow:0 airflow_dataops airflow_dataops
COPY --chown=airflow:0 dag_factory dag_factory
# One lock serves development, too: as constraints it only says which version of what is asked for. pip takes no hashes there.
RUN sed -nE 's/^([A-Za-z0-9._-]+==[^ ;\\]+)( ; [^\\]*)?.*/\1\2/p' requirements.lock > constraints.txt \
    && pip wheel --no-cache-dir --no-deps --wheel-dir /tmp/wheels .

FROM apache/airflow:slim-3.3.2-python3.11
# More packages, for example an auth manager.
ARG EXTRA=""
USER root
# For inventories in a repository.
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
USER airflow
COPY --from=build /tmp/wheels /tmp/src/constraints.txt /tmp/wheels/
RUN pip install --no-cache-dir --constraint /tmp/wheels/constraints.txt \
    "$(ls /tmp/wheels/*.whl)[postgres,mysql,s3,kafka,celery]" $EXTRA
