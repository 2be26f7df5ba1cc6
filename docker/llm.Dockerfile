# syntax=docker/dockerfile:1.7
# `qwenkit serve` on NVIDIA GPUs, from the repository's root:
#   docker build -f docker/llm.Dockerfile -t qwenkit/llm .

FROM python:3.11.14-slim-bookworm AS python


FROM python AS wheel
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY docs/guides docs/guides
COPY qwenkit qwenkit
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .


FROM nvidia/cuda:12.9.1-devel-ubuntu24.04 AS llama-cpp
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates libffi8 \
        libsqlite3-0 libssl3t64 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python /usr/local /usr/local
RUN ldconfig
ARG LLAMA_CPP_PYTHON=0.3.36
# Turing, Ampere (server, desktop), Ada, Hopper, Blackwell (server, desktop).
ARG CUDA_ARCHITECTURES=75;80;86;89;90;100;120
# Without GGML_NATIVE the CPU part needs AVX2 and FMA, and nothing that only the builder has. NCCL is
# there as well, and not in the base of the last stage.
ENV CMAKE_ARGS="-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES} -DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined"
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels "llama-cpp-python==${LLAMA_CPP_PYTHON}"


FROM nvidia/cuda:12.9.1-base-ubuntu24.04
# Python is the one of the official image; the last line fails where one of its libraries is missing.
COPY --from=python /usr/local /usr/local
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libbz2-1.0 libcublas-12-9 libffi8 \
        libgomp1 liblzma5 libncursesw6 libreadline8t64 libsqlite3-0 libssl3t64 libuuid1 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && ldconfig \
    && python -c "import bz2, ctypes, curses, lzma, readline, sqlite3, ssl, uuid, zlib"
RUN groupadd --gid 10001 qwenkit \
    && useradd --uid 10001 --gid 10001 --create-home qwenkit \
    && install --directory --owner=qwenkit --group=qwenkit /models /logs
ENV PATH=/opt/qwenkit/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN python -m venv /opt/qwenkit
# PyTorch only reads and exports weights here: its CPU build spares the image several GB.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --index-url "$TORCH_INDEX_URL" torch==2.13.0
COPY docker/requirements/llm.txt /opt/qwenkit/requirements.txt
RUN pip install -r /opt/qwenkit/requirements.txt
RUN --mount=type=bind,from=llama-cpp,source=/wheels,target=/wheels/llama-cpp \
    pip install --no-deps /wheels/llama-cpp/*.whl
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels/qwenkit \
    pip install --no-deps /wheels/qwenkit/*.whl
# ONNX Runtime is built for CUDA 13 and brings it; llama.cpp takes CUDA 12 from the base image.
ENV LD_LIBRARY_PATH=/opt/qwenkit/lib/python3.11/site-packages/nvidia/cu13/lib:/opt/qwenkit/lib/python3.11/site-packages/nvidia/cudnn/lib:/usr/local/nvidia/lib64 \
    HF_HOME=/models/huggingface \
    HOST=0.0.0.0 \
    LOG_DIR=/logs \
    PORT=8000 \
    QWENKIT_HOME=/models/qwenkit
USER 10001:10001
WORKDIR /home/qwenkit
VOLUME ["/models", "/logs"]
EXPOSE 8000
# A first start may fetch and convert a model; until then it is starting, and not unhealthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1h --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["qwenkit"]
CMD ["serve"]
