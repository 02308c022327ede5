# make demo    a real model file on the GPU, every tensor checked (builds, installs a software
#              Vulkan driver if none is there); a minute and two screens after the build
# make test    the fast lane, the gpu lane, and the examples that check themselves (docs/testing.md)
# make test-full    hours: those tests, the library without the command, ten million mutations of
#                   each kind of file, the long soak, every check, every driver
# make lint    formatting, clippy, docs
# make test-drivers    the tests on every software driver there is, and the shaders through other compilers; fetches what is missing
# make web     the page for browsers, into target/web
# make web-test    the page and the library in headless Chromium and Firefox (root, for Debian's browsers in a chroot)
.PHONY: demo test test-full lint test-drivers web web-test

# Mesa's driver looks for a Wayland socket there and complains if the folder is not set.
export XDG_RUNTIME_DIR ?= $(CURDIR)/target

MODEL := tests/data/storybook-3.7M-Q4_K_M.gguf
PROFILE := release
QMATMUL := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/qmatmul

demo:
	cargo build --profile $(PROFILE)
	@scripts/vulkan.sh $(QMATMUL)
	$(QMATMUL) devices
	$(QMATMUL) inspect $(MODEL) --tensors 'blk.0.attn_?.weight'
	$(QMATMUL) check $(MODEL) -n 1,8
	$(QMATMUL) bench -t q4_k -m 1024 -k 1024 -n 1,8 --seconds 0.2

test:
	cargo build
	scripts/vulkan.sh target/debug/qmatmul
	scripts/tools.sh
	cargo test --no-fail-fast
	@for example in matmul async embed; do echo "example $$example" && target/debug/examples/$$example || exit 1; done

test-full: test
	cargo clippy -p qmatmul -- -D warnings
	cargo build --release
	QMATMUL_FUZZ=10000000 cargo test --test fuzz
	QMATMUL_LANE=full cargo test --test gpu
	cargo test --test full
	QMATMUL_SOAK=long cargo test --release --test gpu soak::
	$(QMATMUL) check --full -v -f csv >target/check-full.csv
	$(MAKE) web-test
	$(MAKE) test-drivers

test-drivers:
	scripts/drivers.sh

web:
	scripts/web.sh build

web-test: web
	scripts/tools.sh
	scripts/web.sh test

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace
