# kronreid with a CPU build of torch:
#     docker build -t kronreid .
#     docker run -p 127.0.0.1:8000:8000 -e KRONREID_TOKEN=… -v people:/data -v ./runs:/models:ro kronreid \
#         serve --gallery /data/people.gallery --matcher /models/kpm --host 0.0.0.0
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m venv /opt/kronreid
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# From this index, or pip takes the CUDA build, which is twenty times as large.
RUN /opt/kronreid/bin/pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY src src
RUN /opt/kronreid/bin/pip install '.[data,export,milvus,serve,train,video]'

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 kronreid && install -d -o kronreid -g kronreid /data
COPY --from=build /opt/kronreid /opt/kronreid
ENV PATH=/opt/kronreid/bin:$PATH PYTHONUNBUFFERED=1
USER kronreid
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/api/ready', timeout=8)"]
ENTRYPOINT ["kronreid"]
CMD ["--help"]
