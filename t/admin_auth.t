# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Who may call the admin API: tokens and the file of their digests, locations
# that are kept to one workspace, and configurations that nginx -t refuses.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Digest::SHA qw(sha256_hex);
use File::Path qw(make_path);
use JSON::PP ();
use Test::Nginx::Socket 'no_plan';

redis_start();

my $utf8 = JSON::PP->new->utf8->canonical;
my $dir = test_dir() . '/conf';

make_path($dir);

# None of them may be in a log.
sub make_token {
    my $token = join '', map { sprintf '%08x', rand 2 ** 32 } 1 .. 8;

    $Agntkey::Key::made{$token} = 1;
    return $token;
}


sub file {
    my ($name, $text) = @_;

    open my $out, '>', "$dir/$name" or die "$dir/$name: $!\n";
    print $out $text;
    close $out;
    return "$dir/$name";
}

my ($alice, $bob, $carol, $nobody) = map { make_token() } 1 .. 4;
my $digest = sha256_hex($alice);

# All that a file may have.
file('many', join "\n", '# The first one', $digest, '', '   ', "\t",
     '  # indented', ' ' . sha256_hex($bob) . " \t# Bob, laptop",
     uc(sha256_hex($carol)) . '# at once', '#' . sha256_hex($nobody), '');
file('crlf', "# Windows\r\n$digest\r\n\r\n" . sha256_hex($bob)
             . "  # Bob\r\n");
file('bare', $digest);
file('bob', sha256_hex($bob) . "\n");

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        location /many/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
        }

        location /crlf/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/crlf;
        }

        location /bare/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/bare;
        }

        location /bob/ {
            agntkey_realm "the back office";
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/bob;
        }

        location /open/ {
            agntkey_admin on;
            agntkey_admin_token_file off;
        }

        location /off/ {
            agntkey_admin off;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/bob;
            root html;
        }

        location /pinned/ {
            agntkey_admin on;
            agntkey_admin_token_file off;
            agntkey_admin_workspace acme;
        }

        location /tenant/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
            agntkey_admin_workspace $arg_t$http_x_tenant;
        }

        location /tenant/workspaces {
            deny all;
        }

        location /denied/ {
            deny all;
            agntkey_admin on;
            agntkey_admin_token_file off;
        }
_EOC_

our $guarded = <<'_EOC_';
        agntkey on;
        root html;

        location /v1 { }

        location /both/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
        }

        location /switched/ {
            agntkey off;
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
        }

        location /header/ {
            agntkey on;
            agntkey_token $http_x_api_key;
            agntkey_scope admin;
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
        }

        location /header/inner/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
        }

        location /same/ {
            agntkey on;
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/conf/many;
        }
_EOC_

our $user_files = ">>> v1\nhello\n>>> off/keys\nhello\n";


# --- asking the API

# api('POST /open/keys', { ... }, $token, @headers)

sub api {
    my ($call, $body, $token, @headers) = @_;
    my $res = http($call, body => $body && $utf8->encode($body), headers => [
        defined $token ? bearer($token) : (),
        $body ? 'Content-Type: application/json' : (), @headers,
    ]);

    $res->{json} = eval { $utf8->decode($res->{body}) };
    $res->{json} = {} if ref $res->{json} ne 'HASH';
    $Agntkey::Key::made{ $res->{json}{key} } = 1 if $res->{json}{key};
    return $res;
}


sub problem_is {
    my ($res, $want, $title) = @_;
    my ($status, $code) = split / /, $want;
    my $problem = $res->{json};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is("$res->{code} " . ($problem->{code} // ''), $want, $title)
        or diag($res->{raw});
    is($res->{headers}{'content-type'}, 'application/problem+json',
       "$title - type");
    is($res->{headers}{'cache-control'}, 'no-store', "$title - no-store");
    is($problem->{status}, $status, "$title - status");
}


sub code_is {
    my ($res, $want, $title) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($res->{code}, $want, $title) or diag($res->{raw});
    return $res->{json};
}


sub refused {
    my ($res, $code, $title, $realm) = @_;

    $realm //= 'agntkey';

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    problem_is($res, "401 $code", $title);
    is($res->{headers}{'www-authenticate'}, qq(Bearer realm="$realm")
       . ($code eq 'token_unknown' ? ', error="invalid_token"' : ''),
       "$title - challenge");
}


# --- tokens

sub good_tokens {
    code_is(api("GET /$_->[0]/workspaces", undef, $_->[1]), 200,
            "in $_->[0]")
        for ['many', $alice], ['many', $bob], ['many', $carol],
            ['crlf', $alice], ['crlf', $bob], ['bare', $alice],
            ['bob', $bob];

    # The scheme in any case, and spaces as for a key.
    code_is(http('GET /bob/workspaces', headers => "Authorization: $_"),
            200, 'the scheme')
        for "bearer $bob", "BEARER $bob", "Bearer   $bob";

    # The actor is the one whose token it is.
    my %actors = map { $_ => substr sha256_hex($_), 0, 8 } $alice, $bob,
                                                           $carol;
    for my $token (sort keys %actors) {
        my $key = code_is(api('POST /many/keys', { workspace => 'who',
                              name => 'Nightly report' }, $token), 201,
                          'a key');
        my $last = redis_cmd('XREVRANGE', 'agntkey:audit:{'
                             . workspace_tag('who') . '}who', '+', '-',
                             'COUNT', 1)->[0][1];
        my %entry = @$last;

        is("$entry{id} $entry{actor}", "$key->{id} $actors{$token}",
           'the actor');
    }
}


sub bad_tokens {
    my $before = redis_commands_count('eval', 'zadd', 'zrangebylex');

    for my $path (qw(/bob/keys?workspace=a /bob/none /bob/openapi.json
                     /bob/keys?limit=0))
    {
        refused(api("GET $path"), 'token_missing', "$path, no token",
                'the back office');
        refused(api("GET $path", undef, $alice), 'token_unknown',
                "$path, another token", 'the back office');
    }

    my $refuse = sub {
        my ($title, $value, $code) = @_;
        refused(api('GET /bare/workspaces', undef, undef,
                    "Authorization: $value"), $code, $title);
    };

    $refuse->($_->[0], $_->[1], 'token_missing')
        for ['empty', ''], ['Bearer alone', 'Bearer'],
            ['Bearer and a space', 'Bearer '], ['Basic', "Basic $alice"],
            ['no scheme', $alice], ['a scheme like ours', "Bearers $alice"];

    $refuse->($_->[0], "Bearer $_->[1]", 'token_unknown')
        for ['nobody', $nobody], ['Bob, who is in another file', $bob],
            ['the digest', $digest], ['upper case', uc $alice],
            ['cut off', substr $alice, 0, -1], ['too long', "${alice}0"],
            ['twice', "$alice $alice"], ['quoted', "\"$alice\""],
            ['a key', key_for('one')], ['8,000 bytes', 'x' x 8000],
            ['one byte', 'x'], ['bytes', "\xff\x80\x01"];

    # A comment is none, even if it looks like one.
    refused(api('GET /many/workspaces', undef, $nobody), 'token_unknown',
            'a digest behind "#"');

    # Nobody gets as far as to hear what is wrong with the rest.
    refused(api('POST /bob/keys', { name => 1 }, $alice), 'token_unknown',
            'a bad body', 'the back office');
    refused(api('DELETE /bob/keys', undef, $alice), 'token_unknown',
            'a bad method', 'the back office');

    # Other places do not count.
    refused(api("GET /bare/workspaces?access_token=none", undef, undef,
                "X-API-Key: $alice", "Cookie: token=$alice"),
            'token_missing', 'elsewhere');

    is(redis_commands_count('eval', 'zadd', 'zrangebylex'), $before,
       'Redis was not asked');

    # nginx itself, which logs what was sent.
    my $twice = http('GET /bare/workspaces', headers => [bearer('a'),
                                                         bearer('a')]);
    is($twice->{code}, 400, 'the header twice');

    my $head = api('HEAD /bob/keys');
    is("$head->{code} $head->{body}", '401 ', 'HEAD has no body');
    is($head->{headers}{'www-authenticate'},
       'Bearer realm="the back office"', 'HEAD - challenge');
}


sub no_tokens {
    code_is(api('GET /open/workspaces'), 200, 'no token asked for');
    code_is(api('GET /open/workspaces', undef, $nobody), 200,
            'whatever is sent');
    code_is(api('POST /open/keys', { workspace => 'open', name => 'Nightly' }),
            201, 'a key is made');

    my $res = api('GET /off/keys');
    is($res->{body}, "hello\n", 'off - the location is as any other');
    is(api('POST /off/keys', { workspace => 'open', name => 'Nightly' })
       ->{code}, 405, 'off - no key is made');
    is(api('GET /denied/workspaces')->{code}, 403, 'deny counts');
}


# Read once: a changed file counts when nginx is told to read it again.

sub reloading {
    my $port = free_port();
    my $path = file('changing', "$digest\n");
    my $nginx = Agntkey::Nginx->new(
        name => 'reload', port => $port,
        http => "agntkey_redis redis://127.0.0.1:"
                . "$ENV{TEST_NGINX_REDIS_PORT}; agntkey_cache off;",
        server => "location /agntkey/ { agntkey_admin on;"
                  . " agntkey_admin_token_file $path; }",
        keep => qr/agntkey_admin_token_file/)->start;

    my $code = sub {
        return http('GET /agntkey/workspaces', port => $port,
                    headers => bearer($_[0]))->{code};
    };

    is($code->($alice) . $code->($bob), '200401', 'as it was at first');

    file('changing', sha256_hex($bob) . "\n");
    is($code->($alice) . $code->($bob), '200401', 'changed, not reloaded');

    ok($nginx->reload, 'reloaded');
    is($code->($alice) . $code->($bob), '401200', 'the change counts');

    # What cannot be read leaves things as they are.
    file('changing', "no digest\n");
    $nginx->signal('HUP');
    ok($nginx->log_wait(qr/\[emerg\].*agntkey_admin_token_file/),
       'a bad file is said');
    is($code->($alice) . $code->($bob), '401200', 'and does not count');

    unlink $path;
    $nginx->signal('HUP');
    ok($nginx->log_wait(qr/\[emerg\].*agntkey_admin_token_file/, 2),
       'no file is said');
    is($code->($alice) . $code->($bob), '401200', 'and does not count');

    $nginx->stop;
    Agntkey::watch();
}


# --- one workspace

sub pinned {
    redis_empty();

    my $mine = seed_key('one', workspace => 'acme');
    my $other = seed_key('one', workspace => 'other');
    my $id = key_id($mine);
    my $their = key_id($other);

    for my $at (['/pinned', undef], ['/tenant', $alice, 'X-Tenant: acme']) {
        my ($prefix, $token, @headers) = @$at;
        my $call = sub {
            my ($line, $body) = @_;
            my ($method, $path) = split / /, $line;
            return api("$method $prefix/$path", $body, $token, @headers);
        };

        code_is($call->("GET keys/$id"), 200, "$prefix: a key of ours");

        # Others do not exist, whatever is wanted of them.
        for my $try (["GET keys/$their"],
                     ["PATCH keys/$their", { name => 'Mine' }],
                     ["POST keys/$their/revoke"],
                     ["POST keys/$their/rotate"],
                     ['GET keys?workspace=other'],
                     ['GET keys?workspace=none'],
                     ['POST keys', { workspace => 'other',
                                     name => 'Mine' }],
                     ['POST keys', { workspace => 'new', name => 'Mine' }])
        {
            problem_is($call->(@$try), '404 not_found',
                       "$prefix: $try->[0]");
        }

        is_deeply([map { $_->{workspace} }
                   @{ $call->('GET keys')->{json}{data} }],
                  ['acme'], "$prefix: the list needs no name");
        code_is($call->('GET keys?workspace=acme'), 200,
                "$prefix: but takes it");

        my $key = code_is($call->('POST keys', { name => 'Nightly' }), 201,
                          "$prefix: nor does a new key");
        is($key->{workspace}, 'acme', "$prefix: and is ours");
        $key = code_is($call->('POST keys', { name => 'Nightly',
                                              workspace => 'acme' }), 201,
                       "$prefix: a new key takes it");
        is($key->{workspace}, 'acme', "$prefix: and is ours too");

        my $new = code_is($call->("POST keys/$key->{id}/rotate"), 201,
                          "$prefix: rotate");
        is($new->{workspace}, 'acme', "$prefix: rotated within");
        code_is($call->("PATCH keys/$key->{id}", { name => 'Changed' }), 200,
                "$prefix: patch");

        for ($key, $new) {
            code_is($call->("POST keys/$_->{id}/revoke"), 200,
                    "$prefix: revoke");
            redis_cmd('ZREM', 'agntkey:index:{' . workspace_tag('acme')
                      . '}acme', $_->{id});
        }

        redis_cmd('DEL', 'agntkey:index:{' . workspace_tag('acme')
                  . '}acme');
        seed_key('one', workspace => 'acme');

        problem_is($call->('POST keys', { name => 'Nightly',
                                          workspace => '' }),
                   '400 invalid_member', "$prefix: an empty name");
    }

    # The other one is as it was.
    my %record = @{ redis_cmd('HGETALL', 'agntkey:key:{'
                              . substr($their, 0, 4) . '}'
                              . substr $their, 4) };
    is($record{name} . $record{active}, 'a key1', 'others are as they were');
    is(redis_cmd('EXISTS', 'agntkey:workspace:{' . workspace_tag('new')
                           . '}new'), 0, 'no workspace has come into being');
}


sub pinned_workspaces {
    redis_empty();

    seed_key('one', workspace => $_) for qw(acme other);

    my $list = code_is(api('GET /pinned/workspaces'), 200, 'the list');

    is(join(' ', map { $_->{name} } @{ $list->{data} }), 'acme',
       'the list has one');
    is($list->{next_cursor}, undef, 'and is over');

    code_is(api('GET /pinned/workspaces/acme'), 200, 'ours');
    problem_is(api('GET /pinned/workspaces/other'), '404 not_found',
               'another');
    problem_is(api('PUT /pinned/workspaces/other',
                   { status => 'disabled' }),
               '404 not_found', 'another cannot be switched off');
    is(api('GET /open/workspaces/other')->{json}{status}, 'active',
       'and is not');

    for my $status (qw(disabled active)) {
        is(code_is(api('PUT /pinned/workspaces/acme',
                       { status => $status }), 200, 'ours can')->{status},
           $status, "ours can be $status");
    }

    # A location of its own takes calls away.
    is(api('GET /tenant/workspaces', undef, $alice, 'X-Tenant: acme')
       ->{code}, 403, 'a path can be closed');
    is(api('PUT /tenant/workspaces/acme', { status => 'disabled' }, $alice,
           'X-Tenant: acme')->{code}, 403, 'with all below it');
}


sub pinned_nowhere {
    redis_empty();

    seed_key('one', workspace => 'acme');

    my $id = key_id(key_for('one'));
    my $before = redis_commands_count('eval', 'zadd', 'zrangebylex',
                                      'hmget');

    for my $try (['GET /tenant/keys'], ['GET /tenant/keys?workspace=acme'],
                 ["GET /tenant/keys/$id"],
                 ["POST /tenant/keys/$id/revoke"],
                 ['GET /tenant/openapi.json'], ['GET /tenant/none'],
                 ['POST /tenant/keys', { name => 'Nightly',
                                         workspace => 'acme' }])
    {
        problem_is(api(@$try[0, 1], $alice), '403 workspace_missing',
                   "$try->[0], of no workspace");
        ok(!exists api(@$try[0, 1], $alice)->{headers}{'www-authenticate'},
           "$try->[0] - no challenge");
    }

    # No name that a workspace can have is as good as none.
    problem_is(api('GET /tenant/keys', undef, $alice, "X-Tenant: $_"),
               '403 workspace_missing', "X-Tenant: $_")
        for '-', 'a b', '*', 'a' x 65;

    refused(api('GET /tenant/keys'), 'token_missing',
            'a token is asked for first');
    is(redis_commands_count('eval', 'zadd', 'zrangebylex', 'hmget'), $before,
       'Redis was not asked');

    is(code_is(api('GET /tenant/keys', undef, $alice, 'X-Tenant: nobody'),
               200, 'one without keys')->{next_cursor}, undef, 'is empty');
}


# --- together with keys

sub with_keys {
    redis_empty();

    my $key = seed_key('one', scopes => 'admin');
    my $plain = seed_key('plain');

    is(http('GET /v1', headers => bearer($key))->{code}, 200,
       'the server wants a key');

    # It is not inherited where the API is, and may be off there, too.
    for my $at (qw(/both /switched /header/inner)) {
        code_is(api("GET $at/workspaces", undef, $alice), 200,
                "$at: a token will do");
        refused(api("GET $at/workspaces", undef, $key), 'token_unknown',
                "$at: a key is no token");
        refused(api("GET $at/workspaces"), 'token_missing',
                "$at: neither");
    }

    # One header cannot hold both.
    answer_is(api('GET /same/workspaces', undef, $alice), '401 malformed',
              'in one header, a token is no key');
    refused(api('GET /same/workspaces', undef, $key), 'token_unknown',
            'in one header, a key is no token');
    answer_is(api('GET /same/workspaces'), '401 missing',
              'in one header, neither');

    # With a place of its own for the key, both are asked for.
    code_is(api('GET /header/workspaces', undef, $alice,
                "X-API-Key: $key"), 200, 'both');
    refused(api('GET /header/workspaces', undef, undef, "X-API-Key: $key"),
            'token_missing', 'the key alone');
    refused(api('GET /header/workspaces', undef, $nobody,
                "X-API-Key: $key"), 'token_unknown', 'the wrong token');
    answer_is(api('GET /header/workspaces', undef, $alice), '401 missing',
              'the token alone');
    answer_is(api('GET /header/workspaces', undef, $alice,
                  "X-API-Key: $plain"), '403 insufficient_scope',
              'a key without the scope');
    code_is(api('POST /header/keys', { workspace => 'acme',
                                       name => 'Nightly' }, $alice,
                "X-API-Key: $key"), 201, 'a body is read after both');
}


# --- nginx -t

sub nginx_t {
    my ($text, %opt) = @_;
    my $binary = $ENV{TEST_NGINX_BINARY} || 'nginx';
    my $modules = join '', map { "load_module $_;\n" }
                           split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    my $temp = join '', map { "    ${_}_temp_path $dir/$_;\n" }
                        qw(client_body proxy fastcgi uwsgi scgi);
    my %at = (http => '', server => '', %opt);

    file('nginx.conf', <<"_EOC_");
$modules
pid $dir/nginx.pid;
error_log stderr;
events { }
http {
    access_log off;
$temp
    $at{http}
    server {
        listen 127.0.0.1:$ENV{TEST_NGINX_PORT};
        $at{server}
        $text
    }
}
_EOC_

    my $out = qx{$binary -e stderr -t -p '$dir/' -c '$dir/nginx.conf' 2>&1};

    return ($? >> 8, $out, $? & 127);
}


sub bad {
    my ($title, $text, $message, %opt) = @_;
    my ($status, $out, $signal) = nginx_t($text, %opt);

    is("$status $signal", '1 0', "$title - refused") or diag($out);
    like($out, qr/\[emerg\].*(?:$message)/, "$title - says why");
    like($out, qr/\[emerg\].*"agntkey_admin/,
         "$title - names the directive");
    unlike($out, qr/\Q$digest\E/, "$title - shows no digest");
}


sub good {
    my ($title, $text, %opt) = @_;
    my ($status, $out) = nginx_t($text, %opt);

    is($status, 0, "$title - accepted") or diag($out);
    unlike($out, qr/\[(?:warn|error|crit|alert|emerg)\]/,
           "$title - nothing to say") or diag($out);
}


sub at { return "location /agntkey/ { @_ }" }

sub with_file {
    my ($name, $text) = @_;
    my $path = defined $text ? file($name, $text) : "$dir/$name";
    return at("agntkey_admin on; agntkey_admin_token_file $path;");
}


sub bad_configurations {
    my $on = 'agntkey_admin on;';
    my $off = 'agntkey_admin_token_file off;';

    bad('on without a file', at($on),
        qr/"agntkey_admin on".*agntkey_admin_token_file/);
    bad('a workspace is no guard', at("$on agntkey_admin_workspace a;"),
        qr/agntkey_admin_token_file/);

    bad('no such file', with_file('nowhere'), qr/nowhere/);
    bad('a directory', at("$on agntkey_admin_token_file $dir;"), qr/./);
    bad('an empty file', with_file('empty', ''), qr/without a digest/);
    bad('a file of comments', with_file('comments', "# a\n\n  # b\n"),
        qr/without a digest/);

    my $token = make_token();

    bad($_->[0], with_file('digests', $_->[1]), qr/no SHA-256 in hex/)
        for ['a token', substr($token, 0, 40) . "\n"],
            ['a digit short', substr($digest, 1) . "\n"],
            ['a digit long', "${digest}0\n"],
            ['SHA-1', substr($digest, 0, 40) . "\n"],
            ['SHA-512', $digest x 2 . "\n"],
            ['no hex', substr($digest, 1) . "g\n"],
            ['a prefix', "sha256:$digest\n"],
            ['as openssl prints it', "$digest *stdin\n"],
            ['two on a line', "$digest $digest\n"],
            ['a comma behind', "$digest,\n"],
            ['the second line', "$digest\n$digest-\n"],
            ['the last line', "$digest\nabc"],
            ['a NUL', "$digest\n\0\n"],
            ['a space inside', substr($digest, 0, 32) . ' '
                               . substr($digest, 32) . "\n"],
            ['a mark of byte order', "\xef\xbb\xbf$digest\n"];

    bad('too large a file', with_file('large', "# comment\n" x 10000
                                               . "$digest\n"), qr/64 KB/);

    bad('on twice', at("$on $on $off"), qr/is duplicate/);
    bad('on and off', at("$on agntkey_admin off; $off"), qr/is duplicate/);
    bad('off twice', at("$on $off $off"), qr/is duplicate/);
    bad('a file twice', at("$on agntkey_admin_token_file $dir/bare; "
                           . "agntkey_admin_token_file $dir/bare;"),
        qr/is duplicate/);
    bad('a file and off', at("$on agntkey_admin_token_file $dir/bare; $off"),
        qr/is duplicate/);
    bad('off and a file', at("$on $off agntkey_admin_token_file "
                             . "$dir/bare;"), qr/is duplicate/);
    bad('a workspace twice', at("$on $off agntkey_admin_workspace a; "
                                . 'agntkey_admin_workspace $arg_b;'),
        qr/is duplicate/);

    bad('a number of keys twice', at("$on $off agntkey_admin_max_keys 1; "
                                     . 'agntkey_admin_max_keys 1;'),
        qr/is duplicate/);
    bad("so many keys: $_", at("$on $off agntkey_admin_max_keys $_;"),
        qr/must be between 1 and 1000000000/) for '0', '1000000001', '5' x 18;
    bad("so many keys: $_", at("$on $off agntkey_admin_max_keys $_;"),
        qr/invalid number/)
        for '-1', 'x', '""', '1.5', '1k', 'on', 'off', '$arg_a', '9' x 20;
    bad('two numbers', at("$on $off agntkey_admin_max_keys 1 2;"),
        qr/invalid number of arguments/);

    bad("$_->[0] $_->[1]", at("$off $_->[0] $_->[1];"),
        qr/invalid (?:value|number)|must be "on" or "off"/)
        for ['agntkey_admin', 'yes'], ['agntkey_admin', '1'],
            ['agntkey_admin', ''], ['agntkey_admin', 'on on'],
            ['agntkey_admin', '$arg_a'];
    bad("$_->[0] of \"$_->[1]\"", at("$on $off $_->[0] $_->[1];"),
        qr/invalid number of arguments/)
        for ['agntkey_admin_workspace', ''],
            ['agntkey_admin_workspace', 'a b'];
    bad('a file too many', at("$on agntkey_admin_token_file a b;"),
        qr/invalid number of arguments/);
    bad('no file', at("$on agntkey_admin_token_file;"),
        qr/invalid number of arguments/);
}


sub bad_places {
    my %directives = (agntkey_admin => 'on',
                      agntkey_admin_token_file => 'off',
                      agntkey_admin_workspace => 'a',
                      agntkey_admin_max_keys => '1');

    for my $name (sort keys %directives) {
        my $text = "$name $directives{$name};";

        bad("$name in http", '', qr/not allowed here/, http => $text);
        bad("$name in server", '', qr/not allowed here/, server => $text);
        bad("$name in if", at("if (\$arg_a) { $text }"),
            qr/not allowed here/);
        bad("$name in limit_except", at("limit_except GET { $text }"),
            qr/not allowed here/);
    }

    my $on = '{ agntkey_admin on; agntkey_admin_token_file off; }';

    bad("location $_", "location $_ $on", qr/prefix location/)
        for '~ ^/agntkey/', '~* ^/agntkey/', '= /agntkey/', '@agntkey',
            '~ ^/(?<x>a)/';

    # A regular one within, or the other way round.
    bad('within a prefix location', at("location ~ /x $on"),
        qr/prefix location/);

    good("location $_", "location $_ $on")
        for '/agntkey/', '/agntkey', '/', '^~ /agntkey/', '/a/b/c/';
    good('within another', "location /a/ { location /a/b/ $on }");
    good('many', "location /a/ $on location /b/ $on");
}


sub good_configurations {
    my $on = 'agntkey_admin on;';

    good($_, with_file($_)) for qw(many crlf bare bob);
    good('off in any order', at("agntkey_admin_token_file off; $on"));
    good('a workspace', at("$on agntkey_admin_token_file off; "
                           . 'agntkey_admin_workspace $arg_a-$arg_b;'));
    good("so many keys: $_", at("$on agntkey_admin_token_file off; "
                                . "agntkey_admin_max_keys $_;"))
        for 1, 10000, 1000000000;
    good('switched off', at('agntkey_admin off;'));
    good('a file of another name', at("$on agntkey_admin_token_file bare;"));
    good('lines without an end', with_file('end', "$digest\n  "));
    good('the same one twice', with_file('same', "$digest\n$digest\n"));
    good('upper case', with_file('upper', uc "$digest\n"));
    good('a thousand lines', with_file('lines',
         join "\n", map { sha256_hex($_) } 1 .. 1000));
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== every digest of the file is a token's
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::good_tokens();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== without a token, or with another: 401
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::bad_tokens();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== no token where none is asked for
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::no_tokens();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== a changed file counts after a reload
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::reloading();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== one workspace: keys of others do not exist
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::pinned();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== one workspace: others do not exist
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::pinned_workspaces();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== one workspace: of none, nothing is shown
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::pinned_nowhere();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== keys and tokens are two things
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::guarded
--- init
::with_keys();
--- request
GET /same/keys
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== nginx -t: a file that holds no digests, and duplicates
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::bad_configurations();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== nginx -t: the wrong place
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::bad_places();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token



=== nginx -t: what is accepted
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::good_configurations();
--- request
GET /bob/keys
--- error_code: 401
--- error_log
agntkey: admin call refused: no token
