# tapct without a screen.
#
#   docker build -t tapct .
#   docker run --rm -v /data:/data tapct info /data
#
# With CUDA: --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 --build-arg TORCH_INDEX=https://pypi.org/simple
# and `docker run --gpus all`.
ARG BASE=debian:12-slim
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/tapct \
    && useradd --create-home tapct

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE napari.yaml ./
COPY tapct_core tapct_core
COPY napari_tapct napari_tapct
RUN /opt/tapct/bin/pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -c constraints.txt '.[dicom,pacs]'

USER tapct
WORKDIR /data
ENV PATH=/opt/tapct/bin:$PATH TAPCT_CACHE=/home/tapct/cache
ENTRYPOINT ["tapct"]
CMD ["--help"]
