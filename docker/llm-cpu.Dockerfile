# syntax=docker/dockerfile:1.7
# `qwenkit serve` without a GPU, from the repository's root:
#   docker build -f docker/llm-cpu.Dockerfile -t qwenkit/llm-cpu .

FROM python:3.11.14-slim-bookworm AS python


FROM python AS wheel
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY docs/guides docs/guides
COPY qwenkit qwenkit
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .


FROM python AS llama-cpp
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
ARG LLAMA_CPP_PYTHON=0.3.36
# Processors with AVX2 and FMA. For AVX-512 or AMX, on machines that all have it:
#   --build-arg CPU_FLAGS="-DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON -DGGML_AMX_TILE=ON -DGGML_AMX_INT8=ON"
ARG CPU_FLAGS=""
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF ${CPU_FLAGS}"
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels "llama-cpp-python==${LLAMA_CPP_PYTHON}"


FROM python
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 qwenkit \
    && useradd --uid 10001 --gid 10001 --create-home qwenkit \
    && install --directory --owner=qwenkit --group=qwenkit /models /logs
ENV PATH=/opt/qwenkit/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN python -m venv /opt/qwenkit
# The usual build of PyTorch brings several GB for GPUs.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN pip install --index-url "$TORCH_INDEX_URL" torch==2.13.0
COPY docker/requirements/llm-cpu.txt /opt/qwenkit/requirements.txt
RUN pip install -r /opt/qwenkit/requirements.txt
RUN --mount=type=bind,from=llama-cpp,source=/wheels,target=/wheels/llama-cpp \
    pip install --no-deps /wheels/llama-cpp/*.whl
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels/qwenkit \
    pip install --no-deps /wheels/qwenkit/*.whl
ENV HF_HOME=/models/huggingface \
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
