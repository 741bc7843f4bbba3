# distilbench on a CPU, with the versions that were tested. For GPUs: --build-arg TORCH_INDEX= (torch from the package
# index brings its CUDA libraries), and `docker run --gpus all`. docs/install.md has the commands.
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_EXTRA_INDEX_URL=${TORCH_INDEX} \
    PYTHONUNBUFFERED=1

WORKDIR /distilbench
COPY . .
RUN python -m pip install -c constraints.txt ".[view]"

# runs, the hub's cache and all else that is written belong to a user without rights, in a folder that can be mounted
RUN useradd --create-home --uid 1000 distilbench && mkdir /work && chown distilbench:distilbench /work
USER distilbench
WORKDIR /work

ENTRYPOINT ["distilbench"]
CMD ["--help"]
