# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Each directive of a location, in each place that inherits it or beside what
# it may get in the way of: an "if", limit_except, a nested location, one in an
# admin location, another content handler.  What it guards is closed there, or
# "nginx -t" refuses.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Digest::SHA qw(sha256_hex);
use Test::More;

redis_start();

my %key = (
    good  => seed_key('good', scopes => 'a'),
    other => seed_key('other', workspace => 'other', scopes => 'a'),
    poor  => seed_key('poor', scopes => 'b'),
);

my $token = sha256_hex("admin token $$ " . rand);
my $tokens = test_dir() . '/tokens';

{
    open my $out, '>', $tokens or die "$tokens: $!\n";
    print $out sha256_hex($token), "\n";
    close $out;
}

my $http = "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT};"
           . ' agntkey_cache off; agntkey_last_used off;';
my $pass = "proxy_pass http://127.0.0.1:$ENV{TEST_NGINX_PORT}/up/;";
my $up = 'location /up/ { agntkey off; return 204; }';


# A directive, what has to be refused for it, and what has to pass: the key,
# where it stands, and the answer.

my $x_key = sub { "X-Key: $key{$_[0]}" };
my $bearer = sub { bearer($key{$_[0]}) };

my @guards = (
    { text => 'agntkey on;' },
    { text => 'agntkey_token $http_x_key;',
      refuse => $bearer->('good'), as => '401 missing',
      pass => $x_key->('good') },
    { text => 'agntkey_realm here;', challenge => 'Bearer realm="here"' },
    { text => 'agntkey_workspace acme;',
      refuse => $bearer->('other'), as => '403 workspace_mismatch' },
    { text => 'agntkey_scope a;',
      refuse => $bearer->('poor'), as => '403 insufficient_scope' },
    { text => 'agntkey_dry_run off;' },
    { text => 'agntkey_stale 0;' },
);

# Those that may stand in limit_except.
my $limited = qr/^agntkey(?:_workspace|_scope)?$/;

# Those of the admin API have tests of their own, below.
my @admin = qw(agntkey_admin agntkey_admin_token_file
               agntkey_admin_workspace agntkey_admin_max_keys);

{
    my $text = join '', map {
        open my $in, '<', $_ or die "$_: $!\n";
        local $/;
        <$in>;
    } glob 'src/*/ngx_http_agntkey_*_module.c';

    my %here = map { $_ => 1 } @admin, map { $_->{text} =~ /^(\w+)/ } @guards;
    my @there = $text =~ /ngx_string\("(agntkey\w*)"\),\s*
                          NGX_HTTP_(?:AGNTKEY_EVERYWHERE|LOC_CONF)/gx;

    is(join(' ', sort keys %here), join(' ', sort @there),
       'every directive of a location is tried');
}


# What inherits from a location: "L" is its prefix, "D" the directive.

my %places = (
    'the location itself' => ["location L { D $pass }"],
    'if' => ["location L { D $pass if (\$arg_x) { set \$y 1; } }", '?x=1'],
    'limit_except' =>
        ["location L { D $pass limit_except GET { deny 192.0.2.1; } }", '',
         'POST'],
    'its limit_except' =>
        ["location L { $pass limit_except GET { D } }", '', 'POST'],
    'a nested location' => ["location L { D location Lin/ { $pass } }", 'in/'],
    'nested twice' =>
        ["location L { D location Lin/ { location Lin/in/ { $pass } } }",
         'in/in/'],
    'a nested location, its "if"' =>
        ["location L { D location Lin/ { $pass"
         . ' if ($arg_x) { set $y 1; } } }', 'in/?x=1'],
    'nested in an admin location' =>
        ["location L { D agntkey_admin on; agntkey_admin_token_file off;"
         . " location Lin/ { $pass } }", 'in/'],
    'nested in an admin location, limit_except' =>
        ["location L { D agntkey_admin on; agntkey_admin_token_file off;"
         . " location Lin/ { $pass limit_except GET { deny 192.0.2.1; } } }",
         'in/', 'POST'],
    'in a nested admin location, an application' =>
        ["location L { D location Lapi/ { agntkey_admin on;"
         . " agntkey_admin_token_file off; location Lapi/in/ { $pass } } }",
         'api/in/'],
);

# An admin location that wants a key says so itself.

my %keyed = (
    'an admin location' => ['location L { A D }', 'workspaces'],
    'an admin location, its "if"' =>
        ['location L { A D if ($http_x_if) { set $y 1; } }', 'workspaces',
         'GET', 'X-If: 1'],
    'an admin location, its limit_except' =>
        ['location L { A D limit_except GET { deny 192.0.2.1; } }', 'keys',
         'POST'],
);

for my $place (values %keyed) {
    $place->[0] =~ s/A/agntkey on; agntkey_admin on;
                       agntkey_admin_token_file off;/;
}


sub refused {
    my ($guard, $line, $title, @headers) = @_;

    my $res = http($line, headers => [@headers, $guard->{refuse} // ()]);

    answer_is($res, $guard->{as} // '401 missing', "$title: refused");
    is($res->{headers}{'www-authenticate'}, $guard->{challenge},
       "$title: the challenge") if $guard->{challenge};
}


sub let_in {
    my ($guard, $line, $want, $title, @headers) = @_;
    my $res = http($line, headers => [@headers,
                                      $guard->{pass} // $bearer->('good')]);

    is($res->{code}, $want, "$title: a good key is let in")
        or diag($res->{raw});
}


# What stands in an outer block, and in the location, must give the same.

{
    my ($config, @tests) = ('');

    for my $guard (@guards) {
        my ($name) = $guard->{text} =~ /^(\w+)/;
        my $on = $name eq 'agntkey' ? '' : 'agntkey on;';
        my $n = 0;

        for my $title (sort keys %places) {
            my ($text, $rest, $method) = @{ $places{$title} };
            my $prefix = "/$name/" . $n++ . '/';

            next if $text =~ /{ D }/ && $name !~ $limited;

            $config .= $text =~ s/\bL/$prefix/gr =~ s/\bD/$on $guard->{text}/r
                       . "\n";
            push @tests, [$guard,
                          ($method // 'GET') . " $prefix" . ($rest // ''),
                          204, "$name, $title"];
        }

        for my $title (sort keys %keyed) {
            my ($text, $rest, $method, @headers) = @{ $keyed{$title} };
            my $prefix = "/$name/" . $n++ . '/';
            my $more = $on ? $guard->{text} : '';

            $config .= $text =~ s/\bL/$prefix/gr =~ s/\bD/$more/r . "\n";
            push @tests, [$guard, ($method // 'GET') . " $prefix$rest",
                          ($method // 'GET') eq 'GET' ? 200 : 400,
                          "$name, $title", @headers];
        }
    }

    my $nginx = Agntkey::Nginx->new(http => $http, server => "$config $up");

    $nginx->start;

    for my $test (@tests) {
        my ($guard, $line, $want, $title, @headers) = @$test;

        refused($guard, $line, $title, @headers);
        let_in($guard, $line, $want, $title, @headers);
    }

    ok(defined $nginx->quit, 'quit');
}

# The same directives at the server, or at http; the locations say nothing.

for my $level (qw(server http)) {
    for my $guard (@guards) {
        my ($name) = $guard->{text} =~ /^(\w+)/;
        my ($config, $n, @tests) = ('', 0);

        for my $title (sort keys %places) {
            my ($text, $rest, $method) = @{ $places{$title} };
            my $prefix = "/$name/" . $n++ . '/';

            $config .= $text =~ s/\bL/$prefix/gr =~ s/\bD//r . "\n";
            push @tests, [($method // 'GET') . " $prefix" . ($rest // ''),
                          "$name of $level, $title"];
        }

        # dry_run is on outside of that, or nothing would be inherited.
        my $text = 'agntkey on; ' . ($name eq 'agntkey' ? '' : $guard->{text});
        my @at = $level eq 'http' ? ("$http $text", '')
                 : ($http . ($name =~ /dry_run/ ? 'agntkey_dry_run on;' : ''),
                    $text);

        my $nginx = Agntkey::Nginx->new(http => $at[0],
                                        server => "$at[1] $config $up");

        $nginx->start;

        for my $test (@tests) {
            refused($guard, @$test);
            let_in($guard, $test->[0], 204, $test->[1]);
        }

        ok(defined $nginx->quit, "$name of $level: quit");
    }
}


# --- an admin location that does not ask for a key, in a server that does

{
    my $admin = "agntkey_admin on; agntkey_admin_token_file $tokens;";
    my $pin = "agntkey_admin on; agntkey_admin_token_file off;"
              . ' agntkey_admin_workspace acme;';
    my $nginx = Agntkey::Nginx->new(http => $http, server => <<_EOC_)->start;
agntkey on;

location /adm/ {
    $admin
    if (\$http_x_if) { set \$y 1; }
    limit_except GET { deny 192.0.2.1; }

    location /adm/in/ { $pass }
    location /adm/api/ { $admin }
}

location /methods/ {
    $admin
    limit_except GET { agntkey on; }
}

location /open_methods/ {
    agntkey on;
    $admin
    limit_except GET { agntkey off; }
}

location /pin/ {
    $pin
    if (\$http_x_if) { set \$y 1; }
    limit_except GET { deny 192.0.2.1; }

    location /pin/in/ { $pass }
}

$up
_EOC_

    my $is = sub {
        my ($line, $want, @headers) = @_;
        my $title = join ', ', $line, map { s/:.*//r } @headers;
        my @body = $line =~ /^POST/
            ? (body => '{"workspace":"other","name":"n"}') : ();

        push @headers, 'Content-Type: application/json' if @body;
        answer_is(http($line, headers => \@headers, @body), $want, $title);
    };
    my @if = ('X-If: 1');
    my @token = bearer($token);
    my @key = $bearer->('good');

    # No key is asked for, and the token is.
    $is->('GET /adm/workspaces', '401 token_missing');
    $is->('GET /adm/workspaces', '401 token_unknown', @key);
    $is->('GET /adm/workspaces', '200', @token);
    $is->('GET /adm/workspaces', '401 token_missing', @if);
    $is->('GET /adm/workspaces', '401 token_unknown', @if, @key);
    $is->('GET /adm/workspaces', '200', @if, @token);
    $is->('POST /adm/keys', '401 token_missing');
    $is->('POST /adm/keys', '401 token_unknown', @key);
    $is->('POST /adm/keys', '201', @token);
    $is->('POST /adm/keys', '401 token_missing', @if);
    $is->('GET /adm/api/workspaces', '401 token_missing');
    $is->('GET /adm/api/workspaces', '200', @token);

    # In a location inside of it, a key is.
    $is->('GET /adm/in/', '401 missing');
    $is->('GET /adm/in/', '401 malformed', @token);
    $is->('GET /adm/in/', '204', @key);

    # What limit_except says of itself counts, both ways.
    $is->('GET /methods/workspaces', '200', @token);
    $is->('POST /methods/keys', '401 missing');
    $is->('POST /methods/keys', '401 malformed', @token);
    $is->('POST /methods/keys', '401 token_unknown', @key);
    $is->('GET /open_methods/workspaces', '401 missing');
    $is->('POST /open_methods/keys', '401 token_missing');
    $is->('POST /open_methods/keys', '201', @token);

    # The pin, wherever there is an API.
    $is->('GET /pin/workspaces/other', '404 not_found');
    $is->('GET /pin/workspaces/acme', '200');
    $is->('GET /pin/workspaces/other', '404 not_found', @if);
    $is->('GET /pin/workspaces/acme', '200', @if);
    $is->('POST /pin/keys', '404 not_found');
    $is->('GET /pin/in/', '401 missing');
    $is->('GET /pin/in/workspaces/acme', '401 malformed', @token);

    ok(defined $nginx->quit, 'quit');
}


# --- what "nginx -t" refuses

sub nginx_t {
    my ($location, $why, $title) = @_;
    my $nginx = Agntkey::Nginx->new(http => $http, name => 'config',
                                    server => "agntkey on; $location");
    my $root = $nginx->{root};

    $nginx->write_config;

    my $binary = Agntkey::Nginx::binary();
    my $conf = "$root/conf/nginx.conf";
    my $out = qx{$binary -e stderr -t -p '$root/' -c '$conf' 2>&1};

    if (!defined $why) {
        is($? >> 8, 0, "$title: accepted") or diag($out);
        return;
    }

    is($? >> 8, 1, "$title: refused") or diag($out);
    like($out, $why, "$title: says why");
}

my $files_off = 'agntkey_admin_token_file off;';
my @handlers = (
    'empty_gif;', 'stub_status;', 'flv;', 'mp4;',
    'proxy_pass http://127.0.0.1:1;', 'fastcgi_pass 127.0.0.1:1;',
    'uwsgi_pass 127.0.0.1:1;', 'scgi_pass 127.0.0.1:1;',
    'grpc_pass 127.0.0.1:1;', 'memcached_pass 127.0.0.1:1;',
);
my $binary = Agntkey::Nginx::binary();
my $built = qx{$binary -V 2>&1};

@handlers = grep { !/^(flv|mp4)/ || $built =~ /http_$1_module/
                   and !/^stub/ || $built =~ /http_stub_status_module/
                   and !/^grpc/ || $built =~ /http_v2_module/ } @handlers;

for my $handler (@handlers) {
    my ($name) = $handler =~ /^(\w+)/;
    my $memcached = $name eq 'memcached_pass' ? 'set $memcached_key k;' : '';
    my $named = qr/"agntkey_admin[ "].*another\ content\ handler/x;
    my $where = qr{location "/both/"|nginx\.conf:\d+};

    nginx_t("location /both/ { agntkey_admin on; $files_off $memcached"
            . " $handler }", qr/$named.*$where/, "agntkey_admin, $name");
    nginx_t("location /both/ { $memcached $handler agntkey_admin on;"
            . " $files_off }", qr/$named.*$where/, "$name, agntkey_admin");
    nginx_t("location /off/ { $memcached $handler agntkey_admin off; }",
            undef, "$name, and agntkey_admin off");

    if ($name =~ /_pass$/) {
        nginx_t("location /both/ { agntkey_admin on; $files_off $memcached"
                . " if (\$arg_x) { $handler } }", qr/$named.*$where/,
                "$name in an \"if\" of an admin location");
    }

    # The only one that may stand there.
    if ($name eq 'proxy_pass') {
        nginx_t("location /both/ { agntkey_admin on; $files_off"
                . " limit_except GET { $handler } }", qr/$named.*$where/,
                "$name in limit_except of an admin location");
    }

    # Every other directive goes with any handler.
    nginx_t("location /x/ { $memcached $handler "
            . join(' ', map { $_->{text} } @guards) . ' }', undef,
            "$name and all that is no admin directive");
}

for my $text ((map { $_->{text} } @guards), 'agntkey_admin on;', $files_off,
              'agntkey_admin_workspace acme;')
{
    my ($name) = $text =~ /^(\w+)/;
    my $why = qr/"$name" directive is not allowed here/;

    nginx_t("location /x/ { if (\$arg_x) { $text } }", $why, "$name in \"if\"");
    nginx_t("location /x/ { $pass limit_except GET { $text } }",
            $name =~ $limited ? undef : $why,
            "$name in limit_except");
}

# Who may call is not inherited: each admin location says it.
nginx_t("location /x/ { agntkey_admin on; $files_off"
        . ' location /x/y/ { agntkey_admin on; } }',
        qr/"agntkey_admin on" needs "agntkey_admin_token_file"/,
        'an admin location in another, without a word on tokens');
nginx_t("location /x/ { agntkey_admin on; if (\$arg_x) { set \$y 1; } }",
        qr/"agntkey_admin on" needs "agntkey_admin_token_file"/,
        'an "if" does not say who may call');

logs_clean();
done_testing();
