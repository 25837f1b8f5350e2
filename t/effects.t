# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What a check or a variable of ours leaves behind on a request: nothing.  A
# map with a regular expression writes $1 and the variables that it names,
# with what the client has sent; no rule, and nothing after it, may see that.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

my %key = map { $_ => seed_key($_, workspace => $_) } qw(acme evil);

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT;

    map $http_authorization $tok {
        "~^(\S+)\s+(\S+)$" $2;
    }

    map $http_authorization $tok_volatile {
        volatile;
        "~^(\S+)\s+(\S+)$" $2;
    }

    map $http_authorization $tok_named {
        "~^(?<tenant>\S+)\s+(?<rest>\S+)$" $rest;
    }

    map $http_authorization $tok_tail {
        "~^(\S+)\s+agnt_(\S+)$" $2;
    }

    # a variable that nginx has, with a value of its own
    map $http_authorization $http_x_mine {
        "~^(\S+)\s+(\S+)$" $2;
    }

    map $http_x_word $word {
        "~^(.+)$" $1;
    }

    map $http_x_word $nothing {
        "~^(?<tenant>.+)$" "";
    }

    limit_req_zone $agntkey_id zone=ids:1m rate=1000r/s;

    map "" $one {
        volatile;
        default $1;
    }

    log_format effects '$agntkey_id $one';
_EOC_

our $config = <<'_EOC_';
    root html;
    access_log logs/effects.log effects;

    add_header X-One "<$1>" always;
    add_header X-Tenant "<$tenant>" always;
    add_header X-Uri "<$uri?$args>" always;

    # each way to name a key
    location ~ ^/map/([^/]+)/ {
        agntkey on; agntkey_token $tok; agntkey_workspace $1; empty_gif;
    }

    location ~ ^/volatile/([^/]+)/ {
        agntkey on; agntkey_token $tok_volatile; agntkey_workspace $1;
        empty_gif;
    }

    location ~ ^/two/([^/]+)/ {
        agntkey on; agntkey_token $arg_none$tok; agntkey_workspace $1;
        empty_gif;
    }

    location ~ ^/text/([^/]+)/ {
        agntkey on; agntkey_token "agnt_$tok_tail"; agntkey_workspace $1;
        empty_gif;
    }

    location ~ ^/mine/([^/]+)/ {
        agntkey on; agntkey_token $http_x_mine; agntkey_workspace $1;
        empty_gif;
    }

    location ~ ^/named/(?<tenant>[^/]+)/ {
        agntkey on; agntkey_token $tok_named; agntkey_workspace $tenant;
        empty_gif;
    }

    # a variable of ours before the check
    location ~ ^/id/([^/]+)/ {
        agntkey on; agntkey_token $tok; agntkey_workspace $1;
        limit_req zone=ids burst=100 nodelay; empty_gif;
    }

    location ~ ^/id_named/(?<tenant>[^/]+)/ {
        agntkey on; agntkey_token $tok_named; agntkey_workspace $tenant;
        limit_req zone=ids burst=100 nodelay; empty_gif;
    }

    # one workspace before another, and beside another
    location ~ ^/first/([^/]+)/ {
        agntkey on; agntkey_token $tok; agntkey_workspace "x$word" $1;
        empty_gif;
    }

    location ~ ^/beside/([^/]+)/ {
        agntkey on; agntkey_token $tok; agntkey_workspace "$nothing$1";
        empty_gif;
    }

    location ~ ^/beside_named/(?<tenant>[^/]+)/ {
        agntkey on; agntkey_token $tok; agntkey_workspace "$nothing$tenant";
        empty_gif;
    }

    location ~ ^/dry/([^/]+)/ {
        agntkey on; agntkey_token $tok; agntkey_workspace $1;
        agntkey_dry_run on; empty_gif;
    }
_EOC_

our $vars = $config . <<'_EOC_';
    location ~ ^/vars/(?<tenant>[^/]+)/ {
        agntkey_token $tok_named;
        set $name $agntkey_name$agntkey_scopes;
        set $more $agntkey_expires$agntkey_cache$agntkey_status;
        add_header X-Vars "<$agntkey_id$agntkey_workspace$name$more>";
        add_header X-One "<$1>" always;
        add_header X-Tenant "<$tenant>" always;
        add_header X-Uri "<$uri?$args>" always;
        empty_gif;
    }

    location ~ ^/set/(?<tenant>[^/]+)/ {
        agntkey_token $tok_named;
        set $id $agntkey_id;
        add_header X-Vars "<$id>";
        add_header X-One "<$1>" always;
        add_header X-Tenant "<$tenant>" always;
        add_header X-Uri "<$uri?$args>" always;
        empty_gif;
    }
_EOC_

our $admin = $config . <<'_EOC_';
    if ($uri ~ ^/adm/[^/]+/(?<tenant>[^/]+)) {
        set $seen 1;
    }

    location /adm/ {
        agntkey_admin on;
        agntkey_admin_token_file off;
        agntkey_admin_workspace "$word$nothing";
    }
_EOC_


my @ways = qw(map volatile two text mine named id id_named first beside
              beside_named);

sub asks {
    my ($path, $word, $key, @headers) = @_;

    return http("GET $path", headers => ["Authorization: $word $key",
                                         "X-Word: $word", @headers]);
}


# The client may write whatever workspace it likes where a map reads it.

sub rules {
    for my $pass (1, 2) {
        for my $way (@ways) {
            my $title = "$way, time $pass";
            my $tenant = $way =~ /named/ ? 'acme' : '';

            answer_is(asks("/$way/acme/?a=b", 'evil', $key{evil}),
                      '403 workspace_mismatch', "$title: a word that fits");
            answer_is(asks("/$way/evil/", 'acme', $key{evil}), 200,
                      "$title: one that does not");

            my $res = asks("/$way/acme/?a=b", 'evil', $key{acme});
            my $h = $res->{headers};

            answer_is($res, 200, "$title: the right key");
            is($h->{'x-one'}, '<acme>', "$title: \$1 is that of the location");
            is($h->{'x-tenant'}, "<$tenant>", "$title: and \$tenant");
            is($h->{'x-uri'}, "</$way/acme/?a=b>", "$title: and the URI");
        }
    }

    my $h = asks('/dry/acme/', 'evil', $key{evil})->{headers};

    is($h->{'x-one'}, '<acme>', 'dry run: $1 is that of the location');
}


sub variables {
    for my $way (qw(vars set)) {
        my $res = asks("/$way/acme/?a=b", 'evil', $key{evil});
        my $h = $res->{headers};

        is($h->{'x-vars'}, '<' . key_id($key{evil}) . '>',
           "$way: the id is that of the key");
        is($h->{'x-one'}, '<acme>', "$way: \$1 is that of the location");
        is($h->{'x-tenant'}, '<acme>', "$way: and \$tenant");
        is($h->{'x-uri'}, "</$way/acme/?a=b>", "$way: and the URI");
    }

    my $id = key_id($key{evil});

    asks('/set/other/', 'evil', $key{evil});
    is_true(wait_until(5, sub {
        open my $in, '<', server_root() . '/logs/effects.log' or return 0;
        return grep { $_ eq "$id other\n" } <$in>;
    }), 'in a log format: $1 is that of the location');
}


sub pinned {
    my $res = asks('/adm/workspaces/acme', 'acme', 'none');
    my $h = $res->{headers};

    is($res->{code}, 200, 'the pinned workspace') or diag($res->{raw});
    is($h->{'x-one'}, '<acme>', '$1 is that of before');
    is($h->{'x-tenant'}, '<acme>', 'and $tenant');

    $res = asks('/adm/workspaces/acme', 'evil', 'none');
    $h = $res->{headers};

    is($res->{code}, 404, 'pinned to another') or diag($res->{raw});
    is($h->{'x-one'}, '<acme>', '$1 is that of before');
    is($h->{'x-tenant'}, '<acme>', 'and $tenant');
}


# A map goes on to be known, with the value that was checked.

sub consistent {
    my $res = http('GET /once/', headers => bearer($key{acme}));
    my ($first, $second) = ($res->{headers}{'x-id'} // '') =~ /^(\w+) (\w+)$/;

    is($res->{code}, 403, 'the value is no workspace of this key');
    is_true(defined $first && $first eq $second,
            'a variable that was checked is not made anew', $res->{raw});
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== rules see what the request had, however the key is named
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::rules();
--- request
GET /map/acme/
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== without the cache as well
--- http_config eval: $::http_config . 'agntkey_cache off;'
--- config eval: $::config
--- init
::rules();
--- request
GET /map/acme/
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== variables
--- http_config eval: $::http_config
--- config eval: $::vars
--- init
::variables();
--- request
GET /vars/acme/
--- response_headers
X-Vars: <>
X-One: <acme>
--- no_error_log
agntkey: key



=== agntkey_admin_workspace
--- http_config eval: $::http_config
--- config eval: $::admin
--- init
::pinned();
--- request
GET /adm/workspaces/acme
--- error_code: 403
--- response_body_like: workspace_missing



=== what was evaluated for a rule is what the rest of the request sees
--- http_config eval: $::http_config
--- config
    location /once/ {
        agntkey on;
        agntkey_workspace $request_id;
        add_header X-Id "$request_id $request_id" always;
        empty_gif;
    }
--- init
::consistent();
--- request
GET /once/
--- error_code: 401
--- error_log
agntkey: key refused: missing
