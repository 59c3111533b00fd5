# syntax=docker/dockerfile:1
# One image for the API and the workers: `synthward api`, `synthward worker`, `synthward migrate`.

FROM python:3.11-slim-bookworm AS build
ARG EXTRAS=s3
# PyTorch's CPU wheel index, where EXTRAS holds ctgan (see README, Installing).
ARG TORCH_INDEX=
WORKDIR /build
RUN python -m venv /opt/synthward
ENV PATH=/opt/synthward/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock pyproject.toml README.md LICENSE ./
# Versions come from the lock.
# hadolint ignore=DL3013
RUN case ",$EXTRAS," in *,ctgan,*) pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.lock)";; esac
COPY app app
COPY workers workers
COPY alembic alembic
# Versions come from the lock.
# hadolint ignore=DL3013
RUN pip install --constraint requirements.lock ".[${EXTRAS}]"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/synthward synthward
COPY --from=build /opt/synthward /opt/synthward
ENV PATH=/opt/synthward/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SYNTHWARD_ARTIFACTS_URL=/var/lib/synthward/artifacts
USER 10001
WORKDIR /var/lib/synthward
RUN mkdir artifacts
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["synthward"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
