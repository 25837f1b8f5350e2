# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What "make bench" measures answers as it should; how fast is no matter
# here. Only where the modules of its peers are installed, and fit the nginx.

use strict;
use warnings;

use Test::More;

my $binary = $ENV{TEST_NGINX_BINARY} || 'nginx';
my ($modules) = (qx{$binary -V 2>&1} // '') =~ /--modules-path=(\S+)/;

plan skip_all => 'the peers of the bench are not installed'
    if $binary =~ m{/} || !-e (($modules // '') . '/ngx_http_lua_module.so')
       || !grep { -e "$_/nginx/redis.lua" } '/usr/share/lua/5.1';

$ENV{NGINX_BINARY} = $binary;

my $said = qx{tools/bench check 2>&1};

is($?, 0, 'every variant lets in whom it should, and nobody else')
    or diag($said);
like($said, qr/^agntkey: ok: agntkey, cache off$/m, 'ours among them');

done_testing();
