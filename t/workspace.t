# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_workspace: whose keys a location takes; and workspaces that are
# switched off or have no record.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

# The longest name there is, and names that begin alike.
our $long = 'w' . 'x' x 62 . 'y';
my @workspaces = ('acme', 'acme2', 'acm', 'ACME', 'a.b-c_d', '7', $long);

seed_key("of $_", workspace => $_) for @workspaces;

sub key { key_for("of $_[0]", workspace => $_[0]) }

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;

    map $arg_tenant $mapped {
        first acme;
        second acme2;
        none '';
        default nobody;
    }
_EOC_

our $config = <<'_EOC_';
        root html;
        add_header X-Status $agntkey_status always;
        add_header X-Workspace $agntkey_workspace always;
        agntkey on;

        location /any { }
        location /acme { agntkey_workspace acme; }
        location /two { agntkey_workspace acme acme2; }
        location /odd { agntkey_workspace a.b-c_d 7; }
        location /long { agntkey_workspace LONG; }
        location /none { agntkey_workspace ""; }
        location /none_or_acme { agntkey_workspace "" acme ""; }
        location /arg { agntkey_workspace $arg_ws; }
        location /args { agntkey_workspace $arg_a $arg_b acm; }
        location /mapped { agntkey_workspace $mapped; }
        location /mixed { agntkey_workspace $arg_a.b-${arg_c}_d; }

        location ~ ^/tenants/(?<tenant>[^/]+)$ {
            agntkey_workspace $tenant;
        }

        location /outer {
            agntkey_workspace acme;
            location /outer/inner { }
            location /outer/own { agntkey_workspace acme2; }
            location /outer/off {
                agntkey_workspace off;
                location /outer/off/inner { }
                location /outer/off/own { agntkey_workspace acme2; }
            }
        }
_EOC_

$config =~ s/LONG/$long/;

our $user_files = join '', map { ">>> $_\nhello\n" }
    (qw(any acme two odd long none none_or_acme arg args mapped mixed
        outer/inner outer/own outer/off/page outer/off/inner outer/off/own), map { "tenants/$_" } @workspaces);


sub answer {
    my ($path, $workspace, $want) = @_;
    my $res = http("GET $path", headers => bearer(key($workspace)));
    my $title = "$path: a key of $workspace";
    my $h = $res->{headers};

    $want = $want ? '200 ok' : '403 workspace_mismatch';

    is("$res->{code} $h->{'x-status'}", $want, $title)
        or return diag($res->{raw});
    is($h->{'x-workspace'}, $workspace, "$title - \$agntkey_workspace");
    is($h->{'cache-control'} // '', $res->{code} == 200 ? '' : 'no-store',
       "$title - Cache-Control");
    ok(!exists $h->{'www-authenticate'}, "$title - no challenge");
}


# Those whose keys may pass; all others may not.

sub allowed {
    my ($path, @names) = @_;
    my %names = map { $_ => 1 } @names;

    answer($path, $_, $names{$_}) for @workspaces;
}


sub fixed {
    allowed('/any', @workspaces);
    allowed('/acme', 'acme');
    allowed('/two', 'acme', 'acme2');
    allowed('/odd', 'a.b-c_d', '7');
    allowed('/long', $long);
    allowed('/outer/inner', 'acme');
    allowed('/outer/own', 'acme2');
}


sub taken_away {
    allowed('/outer/off/page', @workspaces);
    allowed('/outer/off/inner', @workspaces);
    allowed('/outer/off/own', 'acme2');
}


sub empty {
    allowed('/none');
    allowed('/none_or_acme', 'acme');
    allowed('/arg');
    allowed('/arg?ws=');
    allowed('/mapped?tenant=none');
    allowed('/args', 'acm');
}


sub variables {
    allowed('/arg?ws=acme', 'acme');
    allowed('/arg?ws=ACME', 'ACME');
    allowed('/arg?ws=acme%32');
    allowed('/arg?ws=acme,acme2');
    allowed('/arg?ws=*');
    allowed("/arg?ws=$long", $long);
    allowed("/arg?ws=${long}z");
    allowed('/args?a=acme', 'acm', 'acme');
    allowed('/args?b=acme&a=7', 'acm', 'acme', '7');
    allowed('/mapped?tenant=first', 'acme');
    allowed('/mapped?tenant=second', 'acme2');
    allowed('/mapped');
    allowed('/mixed?a=a&c=c', 'a.b-c_d');
    allowed('/mixed');
    allowed("/tenants/$_", $_) for @workspaces;
}


# --- whether it is active

our @values = ('0', '', 'true', 'yes', '11', '1 ', ' 1', "1\n", '01', '1.0',
              '+1', 'on', "1\0", '2');

sub not_active {
    for my $value (undef, @values) {
        my $shown = defined $value ? "\"$value\"" : 'no field';
        my $key = seed_key('active', workspace => 'active');

        $shown =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;

        for my $active ($value, '1') {
            seed_workspace('active', active => $active);

            my $res = http('GET /any', headers => bearer($key));
            my $on = defined $active && $active eq '1';

            is("$res->{code} $res->{headers}{'x-status'}",
               $on ? '200 ok' : '403 workspace_disabled',
               'active of the workspace: ' . ($on ? '1' : $shown));
            is($res->{headers}{'x-workspace'} // '', $on ? 'active' : '',
               'only a key in force speaks for its workspace');
        }

        seed_key('active', workspace => 'active', active => $value);

        my $res = http('GET /any', headers => bearer($key));

        is("$res->{code} $res->{headers}{'x-status'}", '401 revoked',
           "active of the key: $shown");
    }
}


# The record goes, and comes back.

sub no_record {
    my $key = seed_key('lost', workspace => 'lost');
    my ($record) = keys %{ (workspace_records('lost'))[0] };
    my $get = sub { http('GET /any', headers => bearer($key)) };

    is($get->()->{code}, 200, 'a workspace with a record');

    redis_cmd('DEL', $record);

    my $res = $get->();

    is("$res->{code} $res->{headers}{'x-status'}", '403 workspace_disabled',
       'without one');
    ok(!exists $res->{headers}{'www-authenticate'}, 'no challenge');

    redis_cmd('HSET', $record, 'created_at', 1700000000000);
    is($get->()->{headers}{'x-status'}, 'workspace_disabled',
       'a record that does not say "active"');

    redis_cmd('HSET', $record, 'active', 1);
    is($get->()->{code}, 200, 'one that does');
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== only keys of the named workspaces pass
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::fixed();
--- request
GET /acme
--- more_headers eval
bearer(::key('acme2'))
--- error_code: 403
--- error_log eval
[qr/agntkey: key refused: workspace_mismatch, id: @{[key_id(
    ::key('acme2'))]}, /]



=== "off" takes the rule away
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::taken_away();
--- request
GET /outer/off/own
--- more_headers eval
bearer(::key('acme'))
--- error_code: 403
--- error_log
agntkey: key refused: workspace_mismatch



=== an empty value matches nothing
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::empty();
--- request
GET /none
--- more_headers eval
bearer(::key('acme'))
--- error_code: 403
--- error_log
agntkey: key refused: workspace_mismatch



=== values with variables are made for each request
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::variables();
--- request
GET /tenants/acme
--- more_headers eval
bearer(::key('acme'))
--- response_body
hello
--- error_log
agntkey: key refused: workspace_mismatch



=== a workspace or a key is active only if it says exactly "1"
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::not_active();
--- request
GET /any
--- error_code: 401
--- error_log
agntkey: key refused: workspace_disabled
agntkey: key refused: revoked



=== a workspace without a record is disabled
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::no_record();
--- request
GET /any
--- error_code: 401
--- error_log
agntkey: key refused: workspace_disabled



=== agntkey_workspace at http level is that of every location
--- http_config eval: $::http_config . 'agntkey_workspace acme;'
--- user_files eval: $::user_files
--- config eval: $::config
--- request eval
['GET /any', 'GET /any', 'GET /odd']
--- more_headers eval
[map { bearer(::key($_)) } 'acme', 'acme2', '7']
--- error_code eval
[200, 403, 200]
