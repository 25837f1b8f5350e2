# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# nginx asks no access module about a subrequest, so the admin API is not there
# for one: whatever makes it, and whatever guards the location or does not.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();
seed_key('mine', workspace => 'mine');

our $redis = 'agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; '
             . 'agntkey_cache off; log_subrequest on;';

our $config = <<'_EOC_';
    root html;
    error_log logs/error.log info;

    location /denied/ {
        deny all;
        agntkey_admin on;
        agntkey_admin_token_file off;
    }

    location /adm/ {
        agntkey_admin on;
        agntkey_admin_token_file off;
    }

    location /ssi { default_type text/html; ssi on; }

    location /auth/ {
        auth_request /denied/workspaces;
    }

    location /mirror/ {
        mirror /denied/keys;
        empty_gif;
    }

    location /sliced/ {
        SLICE
        agntkey_admin on;
        agntkey_admin_token_file off;
    }

    location /before {
        default_type text/html;
        add_before_body /denied/workspaces;
        add_after_body /adm/workspaces;
    }
_EOC_

# Not every nginx has it.
{
    my $binary = $ENV{TEST_NGINX_BINARY} || 'nginx';
    my $slice = qx{$binary -V 2>&1} =~ /http_slice_module/ ? 'slice 4;' : '';

    $config =~ s/SLICE/$slice/;
}

our $user_files = join '', map { ">>> $_\n" } (
    "ssi\n[<!--# include virtual=\"/denied/workspaces\" -->]"
    . "[<!--# include virtual=\"/adm/workspaces\" -->]"
    . "[<!--# include virtual=\"/adm/workspaces\" set=\"all\" -->"
    . "<!--# echo var=\"all\" -->]",
    "before\nbody", "auth/page\npage");


# The copy is answered in its own time; no key comes of it.

sub mirrored {
    http('POST /mirror/', headers => 'Content-Type: application/json',
         body => '{"workspace":"made","name":"by a mirror"}');
    is_true(log_wait(qr/refused: subrequest/), 'the copy is refused');
    is_true(!redis_cmd('EXISTS', 'agntkey:workspace:{'
                                 . workspace_tag('made') . '}made'),
            'no workspace came into being');
}

watch_logs();
run_tests();
logs_clean();

__DATA__

=== the location is there for the client itself
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /adm/workspaces
--- response_body_like: "name":"mine"
--- no_error_log
refused: subrequest



=== and denied where it is denied
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /denied/workspaces
--- error_code: 403
--- error_log
access forbidden by rule



=== SSI
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /ssi
--- response_body_like: ^(\[[^\{\}]*404 Not Found[^\{\}]*\]){2}\[\]\s*$
--- error_log
agntkey: admin call refused: subrequest



=== auth_request
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /auth/page
--- error_code: 500
--- error_log
agntkey: admin call refused: subrequest
auth request unexpected status: 404



=== mirror, with the method and the body of the request
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::mirrored();
--- request
GET /mirror/
--- error_log
agntkey: admin call refused: subrequest



=== what is put before or after a body
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /before
--- response_body_unlike: "name"
--- error_log
agntkey: admin call refused: subrequest



=== a slice is no way around, and in the way of nothing
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /sliced/workspaces
--- response_body_like: "name":"mine"
--- no_error_log
refused: subrequest
