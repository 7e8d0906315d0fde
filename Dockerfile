# The image of the service and of every `streamproc` command: non-root, nothing is written but to /tmp.
#   docker build -t streamproc:0.1.0 .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -v ./site.toml:/etc/streamproc/site.toml:ro streamproc:0.1.0
# Built and run nowhere in CI (there is no container engine): what CI does instead is in docs/OPERATIONS.md.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY streamproc streamproc
# Wheels first, then an installation without any index: the same two steps as the air-gapped one.
RUN python -m pip wheel --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/streamproc \
    && python -m pip --python /opt/streamproc/bin/python install --no-index --find-links /wheels streamproc

FROM python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="streamproc" \
      org.opencontainers.image.description="Real-time grid telemetry: PMU and SCADA through Kafka and Faust, scored by ONNX models" \
      org.opencontainers.image.licenses="Apache-2.0"
# 65532 needs no entry in /etc/passwd: nothing asks for its name or its home.
COPY --from=build /opt/streamproc /opt/streamproc
ENV PATH=/opt/streamproc/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /tmp
USER 65532:65532
EXPOSE 9108
STOPSIGNAL SIGTERM
# The port is the default of [worker] http_port; a site with another one sets `healthcheck` in its compose file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9108/livez', timeout=4)"]
ENTRYPOINT ["streamproc"]
CMD ["run", "-c", "/etc/streamproc/site.toml"]
