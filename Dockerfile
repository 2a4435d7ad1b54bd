# Sluice in a container: docs/containers.md tells how to build and run it.
#
# Every image that is fetched is an ARG: where no registry is reachable, name
# one of your own. It needs Rust 1.94 or later, a C compiler, make, and the
# certificates of ca-certificates. No line names a syntax image, for the same reason.
ARG RUST_IMAGE=rust:1.95

FROM ${RUST_IMAGE} AS build
WORKDIR /build
# The dependencies alone, in a layer of their own: it lasts until Cargo.toml or
# Cargo.lock changes. Cargo wants a file for each target that the manifest names.
COPY .cargo .cargo
COPY tools/layout/rustc tools/layout/sluice.profdata tools/layout/
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && echo 'fn main() {}' | tee src/main.rs benches/stack.rs benches/decoders.rs benches/guards.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin sluice \
    && rm -r src benches/*
# The program has the prompts, the prices and its handbook in it.
COPY prompts prompts
COPY config config
COPY src src
COPY build.rs ./
COPY tools/layout/functions.ld tools/layout/
# The files keep the age they have outside, and Cargo rebuilds only what is
# younger than its last build: that was the empty program above.
RUN touch benches/stack.rs benches/decoders.rs benches/guards.rs src/main.rs src/lib.rs \
    && cargo build --release --locked --bin sluice
# All that goes into the image. `ldd` names the libraries that the program is
# linked with, which are part of the image above, with their paths.
RUN mkdir -p /image/bin /image/etc/ssl/certs /data \
    && cp target/release/sluice /image/bin/ \
    && ldd target/release/sluice | grep -o '/[^ ]*' | xargs -I {} cp -L --parents {} /image \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

# Nothing else: no shell, no package manager, nothing to keep up to date but Sluice.
FROM scratch
COPY --from=build /image /
COPY LICENSE-APACHE LICENSE-MIT /app/
COPY prompts /app/prompts
COPY config /app/config
# The only place that is written to. A fresh volume takes over its owner.
COPY --from=build --chown=65532:65532 /data /data
WORKDIR /app
# A number, so that a cluster can see that it is not root.
USER 65532:65532
# Loopback is the container's own: nobody would reach it there. Without a key
# Sluice refuses to start like this, until `auth.open` is set.
ENV PATH=/bin \
    SLUICE__SERVER__LISTEN=0.0.0.0:8000 \
    SLUICE__AUDIT__FOLDER=/data/audit \
    SLUICE__STORE__SQLITE=/data/sluice.db
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
    CMD ["sluice", "probe", "--listen", "127.0.0.1:8000"]
ENTRYPOINT ["sluice"]
