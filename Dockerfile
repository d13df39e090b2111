# syntax=docker/dockerfile:1
#
#   docker build -t vqtok .                                   CPU
#   docker build -t vqtok:cuda --build-arg DEVICE=cu130 .     NVIDIA GPUs
#
# docs/serving.md says how to run it, and what of this file has been tried.

ARG PYTHON=3.11


FROM python:${PYTHON}-slim-bookworm AS build

# Which of PyTorch's builds: cpu, or cu and the version of CUDA, such as cu130.
ARG DEVICE=cpu
ARG TORCH=2.13.0
ARG EXTRAS=serve,video

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/vqtok
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src

# From what seldom changes and is large to what often changes and is small.
RUN pip --python /opt/vqtok/bin/python install \
      --index-url "https://download.pytorch.org/whl/${DEVICE}" "torch==${TORCH}"

COPY pyproject.toml constraints.txt docs/deploy/requirements.py ./
RUN python requirements.py pyproject.toml "${EXTRAS}" > /tmp/requirements.txt \
 && pip --python /opt/vqtok/bin/python install -c constraints.txt -r /tmp/requirements.txt

COPY README.md LICENSE MANIFEST.in ./
COPY vqtok vqtok
COPY training training
COPY serve serve
COPY export export
RUN pip --python /opt/vqtok/bin/python install --no-deps .


FROM python:${PYTHON}-slim-bookworm

# The release of Debian decides on its version, as it does on that of everything else in the base.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/*

COPY --from=build /opt/vqtok /opt/vqtok

# All that is ever written goes to /tmp, so the rest may be read-only. No user of this number has to
# exist, nor one of any other number that is asked for: USER stands in for an entry in /etc/passwd.
# Nothing is fetched: mount weights, or set HF_HUB_OFFLINE=0.
ENV PATH=/opt/vqtok/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    USER=vqtok \
    HOME=/tmp \
    HF_HOME=/tmp/huggingface \
    HF_HUB_OFFLINE=1 \
    VQTOK_CACHE=/tmp/vqtok \
    VQTOK_SERVE_HOST=0.0.0.0 \
    VQTOK_SERVE_PORT=8000

WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['VQTOK_SERVE_PORT'] + '/ready', timeout=4)"]

ENTRYPOINT ["/usr/bin/tini", "--", "vqtok", "serve"]
CMD ["photo-tiny"]
