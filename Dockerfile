# A small image with qfleet as its first process, running as a user without privileges.
#
#   docker build -t qfleet .
#   docker run -v $PWD/config.yaml:/etc/qfleet/config.yaml:ro -v qfleet-run:/run/qfleet --stop-timeout 60 qfleet
#
# The volume keeps the ledgers of jobs in hand: with it, jobs of a container that was killed are back as soon as the next
# one starts, instead of when their reservation ends. The stop timeout is longer than the longest `stop-wait`.
#
# Handlers and programs run inside this image. For a PHP or Node application, start from its own image and copy the binary:
#
#   COPY --from=qfleet /usr/local/bin/qfleet /usr/local/bin/

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches are for the next build of the same machine; nothing of them goes into the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin qfleet \
    && install -m 755 target/dist/qfleet /usr/local/bin/qfleet

FROM debian:bookworm-slim
# Roots of trust for `https://` and `rediss://`; time zones of schedules.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/*
# /run/qfleet has the control socket and the ledgers; /etc/qfleet/config.yaml is yours to mount.
RUN groupadd --gid 10001 qfleet \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /run/qfleet --shell /usr/sbin/nologin qfleet \
    && install -d -o qfleet -g qfleet -m 755 /run/qfleet \
    && install -d -m 755 /etc/qfleet
COPY --from=build /usr/local/bin/qfleet /usr/local/bin/qfleet

USER qfleet
WORKDIR /run/qfleet
ENV QFLEET_CONFIG=/etc/qfleet/config.yaml QFLEET_SOCKET=/run/qfleet/qfleet.sock
STOPSIGNAL SIGTERM
# Healthy is a daemon that answers. A process that an operator stopped, or that gave up (exit code 3), shows in
# `qfleet status`; replacing the whole container for it would only cut the others off.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s \
    CMD qfleet status >/dev/null || [ $? -eq 3 ]
ENTRYPOINT ["/usr/local/bin/qfleet"]
CMD ["run"]
