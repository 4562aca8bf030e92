# docker build -f docker/cuda.Dockerfile -t dreamtalk-dmt:cuda . && docker run --rm --gpus all -v "$PWD:/data" dreamtalk-dmt:cuda demo -o /data/demo.mp4
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-dev g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv /opt/dmt
ENV PATH=/opt/dmt/bin:$PATH TORCH_CUDA_ARCH_LIST="8.0;8.9;9.0"
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt torch torchaudio numpy setuptools wheel pybind11 ninja
COPY . .
RUN DMT_BUILD=cuda pip install --no-cache-dir -c constraints.txt --no-build-isolation ".[face,web]"

# torch's wheels bring the CUDA libraries they need; the host brings the driver.
FROM ubuntu:24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3 libgl1 libglib2.0-0t64 gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home talker
COPY --from=build /opt/dmt /opt/dmt
ENV PATH=/opt/dmt/bin:$PATH PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER talker
WORKDIR /data
ENTRYPOINT ["dmt"]
CMD ["doctor"]
