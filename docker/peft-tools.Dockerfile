# syntax=docker/dockerfile:1.7
# Training, quantising and exporting, on GPUs or without, from the repository's root:
#   docker build -f docker/peft-tools.Dockerfile -t qwenkit/peft-tools .
# No CUDA base: PyTorch's own wheel brings CUDA, and the container toolkit brings the driver.

FROM python:3.11.14-slim-bookworm AS python


FROM python AS wheel
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY docs/guides docs/guides
COPY qwenkit qwenkit
ENV QWENKIT_BUILD_UI=0
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .


FROM python AS llama-cpp
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
ARG LLAMA_CPP_PYTHON=0.3.36
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels "llama-cpp-python==${LLAMA_CPP_PYTHON}"


FROM python
# PyTorch compiles small pieces while it trains on a GPU, and so needs a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 qwenkit \
    && useradd --uid 10001 --gid 10001 --create-home qwenkit \
    && install --directory --owner=qwenkit --group=qwenkit /models /logs
ENV PATH=/opt/qwenkit/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN python -m venv /opt/qwenkit
COPY docker/requirements/peft-tools.txt /opt/qwenkit/requirements.txt
RUN pip install -r /opt/qwenkit/requirements.txt
RUN --mount=type=bind,from=llama-cpp,source=/wheels,target=/wheels/llama-cpp \
    pip install --no-deps /wheels/llama-cpp/*.whl
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels/qwenkit \
    pip install --no-deps /wheels/qwenkit/*.whl
ENV HF_HOME=/models/huggingface \
    LOG_DIR=/logs \
    QWENKIT_HOME=/models/qwenkit
USER 10001:10001
WORKDIR /models
VOLUME ["/models", "/logs"]
# It runs one command and ends: nothing to ask for its health.
HEALTHCHECK NONE
ENTRYPOINT ["qwenkit"]
CMD ["--help"]
