# Copyright (C) the agntkey authors

BUILD_DIR ?= build
NGINX_SRC ?=
PORT ?=

# where Debian has nginx, and plain users do not look
export PATH := $(PATH):/usr/sbin:/sbin

export BUILD_DIR NGINX_SRC PORT

# what the module is built from, what it runs with, what tests it
BUILD_PACKAGES = gcc make nginx nginx-dev libhiredis-dev libjansson-dev \
                 libssl-dev libpcre2-dev zlib1g-dev
RUN_PACKAGES   = redis-server curl perl
TEST_PACKAGES  = libtest-base-perl openssl nghttp2-client strace spin \
                 clang llvm libclang-rt-dev? clang-tidy cppcheck lua5.1 \
                 libnginx-mod-nchan? \
                 $(if $(shell command -v npm),,npm)
BENCH_PACKAGES = wrk valgrind libnginx-mod-http-lua lua-nginx-redis \
                 lua-nginx-string

# for what "make test" does not run
DEEP_PACKAGES  = valgrind dpkg-dev

NGINX_BINARY ?= $(if $(NGINX_SRC),$(abspath $(BUILD_DIR))/nginx,nginx)

# the real Test::Nginx where it is installed, else what stands in for it
HARNESS = $(shell perl -MTest::Nginx::Socket -e 1 2>/dev/null \
                  || echo '$(CURDIR)/t/lib')

PROVE = PERL5LIB="$$PERL5LIB$${PERL5LIB:+:}$(HARNESS)" \
        TEST_NGINX_BINARY=$(NGINX_BINARY) prove


.PHONY: all
all:
	@tools/build


.PHONY: help
help:
	@echo 'make          build $$BUILD_DIR/ngx_http_agntkey_module.so'
	@echo 'make run      install, build, start, and show the life of a key'
	@echo 'make stop     stop what "make run" has left running'
	@echo 'make test     install, build, and run every test'
	@echo 'make random   the randomized run, RANDOM_SECONDS=n long (300)'
	@echo 'make soak     a busy server for SOAK_SECONDS=n (300): nothing may leak'
	@echo 'make bench    measure it beside what else one could use: 10 minutes'
	@echo 'make unit     the unit tests of the pure files only'
	@echo 'make model    verify the model of how caches are kept coherent'
	@echo 'make fuzz     what reads input, with libFuzzer; FUZZ_SECONDS=3 each'
	@echo 'make sanitize all suites on an nginx with ASan and UBSan'
	@echo 'make valgrind some suites under memcheck'
	@echo 'make coverage what of the sources unit tests and suites have run'
	@echo 'make lint     layout, layers, and what analyzers say'
	@echo 'make layers   check that files include only what is below them'
	@echo 'make deps     install what is missing for all of these'
	@echo 'make clean    remove $$BUILD_DIR'
	@echo
	@echo 'NGINX_SRC=dir   build for (and test with) that source tree of nginx'
	@echo 'BUILD_DIR=dir   build there; default: build'
	@echo 'PORT=n          where "make run" listens, on 127.0.0.1'
	@echo 'RANDOM_SEED=n   the chances that a randomized run had before'
	@echo 'T=t/scope.t     the suites that "make test" runs'
	@echo 'PARTS=compare   what "make bench" measures: see tools/bench'


.PHONY: deps
deps:
	@tools/deps $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)


.PHONY: run
run:
	@tools/deps $(BUILD_PACKAGES) $(RUN_PACKAGES)
	@tools/build
	@NGINX_BINARY=$(NGINX_BINARY) tools/run start


.PHONY: stop
stop:
	@tools/run stop


.PHONY: test
test: deps all unit model fuzz lint suites


# what is built already is tested, by the nginx named
.PHONY: suites
suites:
	@$(PROVE) $(or $(T),t/*.t t/system/*.t)


# "make test" has a short one; this is for as long as one likes
.PHONY: random
random: deps all
	@RANDOM_SECONDS=$(or $(RANDOM_SECONDS),300) \
		RANDOM_SEED=$(RANDOM_SEED) $(PROVE) -v t/system/random.t


# likewise: minutes, or hours
.PHONY: soak
soak: deps all
	@SOAK_SECONDS=$(or $(SOAK_SECONDS),300) $(PROVE) -v t/system/soak.t


.PHONY: deep-deps
deep-deps: deps
	@tools/deps $(DEEP_PACKAGES)


.PHONY: sanitize
sanitize: deep-deps
	@tools/sanitize $(T)


.PHONY: bench
bench:
	@tools/deps $(BUILD_PACKAGES) $(RUN_PACKAGES) $(BENCH_PACKAGES)
	@tools/build
	@NGINX_BINARY=$(NGINX_BINARY) tools/bench $(PARTS)


.PHONY: valgrind
valgrind: deep-deps all
	@tools/valgrind $(T)


.PHONY: coverage
coverage: deps
	@tools/coverage $(T)


.PHONY: lint
lint: all
	@tools/lint


.PHONY: unit
unit: all
	@t/unit/run


.PHONY: model
model:
	@t/model/run


.PHONY: fuzz
fuzz: all
	@t/fuzz/run


.PHONY: layers
layers:
	@tools/layers


.PHONY: clean
clean:
	@[ ! -d $(BUILD_DIR)/run ] || tools/run stop
	rm -rf $(BUILD_DIR)
