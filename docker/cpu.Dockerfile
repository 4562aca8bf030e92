# docker build -f docker/cpu.Dockerfile -t dreamtalk-dmt . && docker run --rm -v "$PWD:/data" dreamtalk-dmt demo -o /data/demo.mp4
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/dmt
ENV PATH=/opt/dmt/bin:$PATH
COPY constraints.txt .
# The processor's build of the torch that constraints.txt pins: a tenth of the size of the CUDA build.
RUN pip install --no-cache-dir torch==2.11.0 torchaudio==2.11.0 --index-url https://download.pytorch.org/whl/cpu \
    && grep -viE '^(torch|torchaudio|triton|nvidia|cuda)' constraints.txt > pins.txt \
    && pip install --no-cache-dir -c pins.txt numpy setuptools wheel pybind11 ninja
COPY . .
RUN DMT_BUILD=cpu pip install --no-cache-dir -c pins.txt --no-build-isolation ".[face,web]"

FROM python:3.11-slim-bookworm
# OpenCV, which MediaPipe's landmarks need, looks for libGL and glib.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home talker
COPY --from=build /opt/dmt /opt/dmt
ENV PATH=/opt/dmt/bin:$PATH PYTHONUNBUFFERED=1
USER talker
WORKDIR /data
ENTRYPOINT ["dmt"]
CMD ["doctor"]
