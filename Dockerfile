# Two stages: the first makes an environment from the locked packages and the built wheel, the second is that and no more.
FROM python:3.13.14-slim-bookworm AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Every locked package, its hash checked; a layer of its own, made again only when the lock changes.
COPY requirements/server.txt requirements/server.txt
RUN python -m pip wheel --require-hashes --requirement requirements/server.txt --wheel-dir wheels
# Argon2 for newer processors: --build-arg ARGON2_CFLAGS='-O3 -march=x86-64-v3' hashes 1.4 to 1.8 times as fast, and runs
# where there is AVX2. -march=native would be for the machine that builds the image: on an older one the service would die of SIGILL. Without
# the argument it is the published wheel, which runs on all of them.
ARG ARGON2_CFLAGS=
COPY requirements/native.txt requirements/native.sh requirements/
RUN if [ -n "$ARGON2_CFLAGS" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm wheels/argon2_cffi_bindings-*.whl \
        && CFLAGS=$ARGON2_CFLAGS requirements/native.sh python wheels; \
    fi
COPY pyproject.toml README.md ./
COPY src src
# The version is git's to tell, which is not here: --build-arg VERSION="$(git describe --tags | cut -c 2-)" at a tag. Without
# it the image says 0.0.0.
ARG VERSION=
RUN python -m pip install --no-index --find-links wheels hatchling hatch-vcs \
    && if [ -n "$VERSION" ]; then export SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION"; fi \
    && python -m hatchling build --target wheel --directory wheels
# Of those wheels, and from nowhere else, what the service needs: neither pip nor what builds packages.
RUN python -m venv --without-pip /opt/pickguard \
    && python -m pip --python /opt/pickguard/bin/python install --no-index --find-links wheels 'pickguard[server]'

FROM python:3.13.14-slim-bookworm
# The user has a fixed number, so that the owner of a volume's files is known outside of the container.
RUN groupadd --gid 10001 pickguard \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin pickguard \
    && install --directory --owner pickguard --group pickguard --mode 700 /data
COPY --from=build /opt/pickguard /opt/pickguard
COPY docker/healthcheck.py /opt/pickguard/healthcheck.py
# Argon2's memory in huge pages: a hash takes 6 to 9 % less time at the default cost, and a third less where it takes more than
# 32 MiB, which malloc gives back and gets anew for each hash. The embedded store is started without them.
ENV PATH=/opt/pickguard/bin:$PATH \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PICKGUARD_HOST=0.0.0.0 \
    PICKGUARD_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 9443
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/pickguard/healthcheck.py"]
ENTRYPOINT ["pickguard"]
CMD ["serve"]
