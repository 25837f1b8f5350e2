# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The admin API: what each call answers, what it leaves in Redis, and what
# becomes of requests with the keys.  Bad input is elsewhere.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Digest::SHA qw(sha256_hex);
use JSON::PP ();
use Test::Nginx::Socket 'no_plan';

redis_start();

my $utf8 = JSON::PP->new->utf8->canonical;

# None of these may be in a log, nor may the keys that the API makes.
my $token = join '', map { sprintf '%08x', rand 2 ** 32 } 1 .. 8;
my @secrets = ($token);

$Agntkey::Key::made{$token} = 1;

open my $out, '>', test_dir() . '/tokens' or die "tokens: $!\n";
print $out sha256_hex($token), "\n";
close $out;

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        location /agntkey/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/tokens;
        }

        location /open {
            agntkey_admin on;
            agntkey_admin_token_file off;
        }

        location /a/b/ {
            agntkey_admin on;
            agntkey_admin_token_file off;
        }

        location /v1 {
            agntkey on;
            add_header X-Name $agntkey_name;
            add_header X-Scopes $agntkey_scopes;
            add_header X-Workspace $agntkey_workspace;
            root html;
        }

        location /need {
            agntkey on;
            agntkey_scope orders:read;
            root html;
        }
_EOC_

our $user_files = ">>> v1\nhello\n>>> need\nhello\n";

# The whole of a key, apart from what only some answers have.
my @members = qw(created_at expires_at hint id last_used_at name revoked_at
                 scopes status workspace);
my $time = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/;


# --- asking the API

# api('PATCH keys/...', { ... }): a response, with its body as "json".

sub api {
    my ($call, $body, %opt) = @_;
    my ($method, $path) = split / /, $call, 2;
    my @headers = @{ $opt{headers} // [] };

    push @headers, bearer($token) if !$opt{no_token};
    push @headers, 'Content-Type: application/json' if defined $body;
    $body = $utf8->encode($body) if ref $body;

    my $prefix = $opt{prefix} // '/agntkey/';
    my $res = http("$method $prefix$path", headers => \@headers,
                   body => $body);

    $res->{json} = eval { $utf8->decode($res->{body}) };

    if (ref $res->{json} eq 'HASH' && defined $res->{json}{key}) {
        my $key = $res->{json}{key};

        $Agntkey::Key::made{$_} = 1 for $key, key_secret($key);
        push @secrets, $key, key_secret($key);
    }

    return $res;
}


# The object of an answer that has to be a good one, and the answer.

sub good { return (good_answer(@_))[0] }

sub good_answer {
    my ($title, $code, @call) = @_;
    my $res = api(@call);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is($res->{code}, $code, "$title - $code") or diag($res->{raw});
    is($res->{headers}{'content-type'}, 'application/json',
       "$title - type");
    is($res->{headers}{'cache-control'}, 'no-store', "$title - no-store");
    is($res->{headers}{'content-length'}, length $res->{body},
       "$title - length");
    is(ref $res->{json}, 'HASH', "$title - an object")
        or diag($res->{raw});

    return ($res->{json} // {}, $res);
}


sub refused {
    my ($title, $want, @call) = @_;
    my $res = api(@call);
    my ($status, $code) = split / /, $want;
    my $problem = ref $res->{json} eq 'HASH' ? $res->{json} : {};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is("$res->{code} " . ($problem->{code} // ''), $want, $title)
        or diag($res->{raw});
    is($res->{headers}{'content-type'}, 'application/problem+json',
       "$title - type");
    is($res->{headers}{'cache-control'}, 'no-store', "$title - no-store");
    is($problem->{type}, "urn:agntkey:problem:$code", "$title - URI");
    is($problem->{status}, $status, "$title - status");
    like($problem->{$_}, qr/^\S.{5,}/, "$title - $_") for qw(title detail);

    return $res;
}


# A new key; only its making is looked at elsewhere.

sub create {
    my ($workspace, %members) = @_;
    my $res = api('POST keys', { workspace => $workspace,
                                 name => 'Nightly report', %members });

    $res->{code} eq '201' or die "no key:\n$res->{raw}";
    return $res->{json};
}


sub shown { my %key = %{ $_[0] }; delete @key{qw(key warnings)}; \%key }


sub key_is {
    my ($title, $got, %want) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is(join(' ', grep { $_ ne 'receipt' } sort keys %$got), "@members",
       "$title - members");
    is_deeply({ map { $_ => $got->{$_} } keys %want }, \%want, $title)
        or diag($utf8->encode($got));
}


sub ms {
    my ($time) = @_;
    my ($y, $mon, $d, $h, $min, $s, $ms)
        = $time =~ /^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)\.(\d+)Z/
        or return -1;

    require Time::Local;
    return Time::Local::timegm($s, $min, $h, $d, $mon - 1, $y) * 1000 + $ms;
}


sub iso {
    my ($ms) = @_;
    my @t = gmtime int $ms / 1000;

    return sprintf '%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', $t[5] + 1900,
           $t[4] + 1, @t[3, 2, 1, 0], $ms % 1000;
}


sub redis_now {
    my ($s, $us) = @{ redis_cmd('TIME') };
    return $s * 1000 + int $us / 1000;
}


# --- what a key is good for

sub use_key {
    my ($key, $path) = @_;
    return http('GET ' . ($path // '/v1'), headers => bearer($key));
}


sub works {
    my ($title, $key, $path) = @_;
    my $res = use_key($key, $path);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is($res->{code}, 200, $title) or diag($res->{raw});
    return $res;
}


sub fails {
    my ($title, $want, $key) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;
    answer_is(use_key($key), $want, $title);
}


# --- what is in Redis

sub hash { my %h = @{ redis_cmd('HGETALL', $_[0]) }; return \%h }

sub tagged {
    my ($kind, $workspace) = @_;
    return "agntkey:$kind:{" . workspace_tag($workspace) . "}$workspace";
}


sub key_name {
    my ($tag, $random) = unpack 'a4 a8', $_[0];
    return "agntkey:key:{$tag}$random";
}


# The entries of a stream without what differs from run to run.

sub audit {
    my ($workspace) = @_;
    my @entries = map { +{ @{ $_->[1] } } }
                  @{ redis_cmd('XRANGE', tagged('audit', $workspace),
                               '-', '+') };
    return @entries;
}


# Everything that Redis holds, as one text.

sub everything {
    my %read = (
        hash   => sub { redis_cmd('HGETALL', $_[0]) },
        zset   => sub { redis_cmd('ZRANGE', $_[0], 0, -1, 'WITHSCORES') },
        stream => sub { redis_cmd('XRANGE', $_[0], '-', '+') },
        string => sub { redis_cmd('GET', $_[0]) },
        set    => sub { redis_cmd('SMEMBERS', $_[0]) },
        list   => sub { redis_cmd('LRANGE', $_[0], 0, -1) },
    );

    return join "\n", map { $_, flat($read{redis_cmd('TYPE', $_)}->($_)) }
                      sort @{ redis_cmd('KEYS', '*') };
}


sub flat {
    return join "\n", map { ref $_ ? flat(@$_) : $_ // '' } @_;
}


# --- families

sub creating {
    my $from = redis_now();
    my ($key, $res) = good_answer('create', 201, 'POST keys', {
        workspace => 'create', name => 'Production API Server',
        scopes => ['orders:read', 'orders:write'],
        expires_at => '2101-02-03T04:05:06.789Z',
    });
    my $to = redis_now();
    my $id = $key->{id};

    is($res->{headers}{location}, "/agntkey/keys/$id", 'create - Location');
    key_is('create', shown($key),
           name => 'Production API Server', workspace => 'create',
           status => 'active', scopes => ['orders:read', 'orders:write'],
           expires_at => '2101-02-03T04:05:06.789Z', last_used_at => undef,
           revoked_at => undef, hint => "agnt_$id\x{2026}");

    like($key->{created_at}, $time, 'create - created_at');
    cmp_ok(ms($key->{created_at}), '>=', $from, 'create - not before');
    cmp_ok(ms($key->{created_at}), '<=', $to, 'create - not after');
    is_deeply($key->{warnings}, [], 'create - no warning');

    # The form of a key, by another implementation than the module's.
    my $text = $key->{key};

    like($text, qr/^agnt_[0-9A-Za-z]{50}\z/, 'create - a key');
    is(key_id($text), $id, 'create - with its id');
    is(substr($id, 0, 4), workspace_tag('create'),
       'create - the id begins with the tag of the workspace');
    is($text, with_check(key_without_check($text)),
       'create - with its check');

    my $used = works('create - it works at the next request', $text);

    is($used->{headers}{'x-name'}, 'Production API Server',
       'create - its name');
    is($used->{headers}{'x-scopes'}, 'orders:read orders:write',
       'create - its scopes');
    is($used->{headers}{'x-workspace'}, 'create', 'create - its workspace');
    works('create - and where a scope is needed', $text, '/need');

    # Shown once, and never again.
    for my $call ("GET keys/$id", 'GET keys?workspace=create') {
        my ($again, $res) = good_answer("after create, $call", 200, $call);

        $again = $again->{data}[0] if exists $again->{data};
        is_deeply({ %$again, last_used_at => undef }, shown($key),
                  "after create, $call - the same without the key");
        unlike($res->{raw}, qr/\Q@{[key_secret($text)]}/,
               "after create, $call - the secret is not shown");
    }
}


sub creating_less {
    my $key = good('least', 201, 'POST keys',
                   { workspace => 'least', name => 'Nightly report' });

    key_is('least', shown($key), scopes => [], expires_at => undef,
           status => 'active');
    works('least - it works', $key->{key});
    fails_scope($key->{key});

    $key = good('null', 201, 'POST keys',
                { workspace => 'least', name => 'Nightly report',
                  scopes => [], expires_at => undef });
    key_is('null', shown($key), scopes => [], expires_at => undef);

    # Names are text, not bytes; nothing of them is markup.
    for my $name ("\x{e4}\x{f6}\x{20ac} \x{1f511}", '"\\/<&>', '0', 'a,b',
                  'x' x 100, "\x{1f511}" x 100, ' ')
    {
        my $key = good('name', 201, 'POST keys',
                       { workspace => 'least', name => $name });
        my $again = good('name again', 200, "GET keys/$key->{id}");

        is($key->{name}, $name, 'name - as it was given');
        is($again->{name}, $name, 'name - and kept');
    }

    my ($other, $res) = good_answer('other prefix', 201, 'POST keys',
        { workspace => 'least', name => 'Nightly report' },
        prefix => '/a/b/');
    is($res->{headers}{location}, "/a/b/keys/$other->{id}",
       'other prefix - Location');

    ($other, $res) = good_answer('no slash', 201, 'POST keys',
        { workspace => 'least', name => 'Nightly report' },
        prefix => '/open/');
    is($res->{headers}{location}, "/open/keys/$other->{id}",
       'no slash - Location');
}


sub fails_scope {
    my $res = use_key($_[0], '/need');
    answer_is($res, '403 insufficient_scope', 'a key without the scope');
}


sub poor_names {
    for my $name (qw(test key foo 123), 'My API key', 'Test 2') {
        my $key = good("poor name $name", 201, 'POST keys',
                       { workspace => 'poor', name => $name });

        is(scalar @{ $key->{warnings} }, 1, "poor name $name - a warning");
        like($key->{warnings}[0], qr/name/, "poor name $name - about it");
        works("poor name $name - the key is made", $key->{key});
    }

    for my $name ('Production API Server', 'CI/CD Pipeline', 'test rig 7') {
        my $key = good("good name $name", 201, 'POST keys',
                       { workspace => 'poor', name => $name });
        is_deeply($key->{warnings}, [], "good name $name - no warning");
    }
}


sub in_redis {
    redis_empty();

    my $key = create('stored', scopes => ['a', 'b:c'],
                     expires_at => '2101-01-01T00:00:00Z');
    my $id = $key->{id};
    my $created = ms($key->{created_at});

    my @names = (key_name($id), 'agntkey:workspaces',
                 map { tagged($_, 'stored') } qw(audit index live workspace));

    is_deeply([sort grep { !/^agntkey:(?:used|workers|registry)/ }
               @{ redis_cmd('KEYS', '*') }], [sort @names],
              'in Redis - these keys and no others');

    is_deeply(hash(key_name($id)), {
        digest     => sha256_hex($key->{key}),
        active     => 1,
        workspace  => 'stored',
        name       => 'Nightly report',
        scopes     => 'a b:c',
        created_at => $created,
        expires_at => 4133980800000,
    }, 'in Redis - the key');

    is_deeply(hash(tagged('workspace', 'stored')),
              { active => 1, created_at => $created },
              'in Redis - the workspace');
    is_deeply(redis_cmd('ZRANGE', tagged('index', 'stored'), 0, -1,
                        'WITHSCORES'),
              [$id, $created], 'in Redis - the index');
    is_deeply(redis_cmd('ZRANGE', 'agntkey:workspaces', 0, -1,
                        'WITHSCORES'),
              ['stored', 0], 'in Redis - the list of workspaces');
    is(redis_cmd('TTL', $_), -1, 'in Redis - none of it runs out')
        for @{ redis_cmd('KEYS', 'agntkey:[kwi]*') };

    my $other = create('stored');

    is_deeply(hash(key_name($other->{id})), {
        digest     => sha256_hex($other->{key}),
        active     => 1,
        workspace  => 'stored',
        name       => 'Nightly report',
        scopes     => '',
        created_at => ms($other->{created_at}),
    }, 'in Redis - a key that never expires');
    is(hash(tagged('workspace', 'stored'))->{created_at}, $created,
       'in Redis - the workspace is not made anew');
    is(redis_cmd('ZCARD', tagged('index', 'stored')), 2,
       'in Redis - both are in the index');

    my $revoked = good('in Redis - revoke', 200, "POST keys/$id/revoke");
    my $record = hash(key_name($id));

    ok(!exists $record->{active}, 'in Redis - no longer active');
    is($record->{revoked_at}, ms($revoked->{revoked_at}),
       'in Redis - revoked_at');
    is($record->{digest}, sha256_hex($key->{key}),
       'in Redis - the digest stays, for its holder to be told');

    good('in Redis - never', 200, "PATCH keys/$id", { expires_at => undef });
    ok(!exists hash(key_name($id))->{expires_at},
       'in Redis - expires_at is absent for a key that never does');

    good('in Redis - disable', 200, 'PUT workspaces/stored',
         { status => 'disabled' });
    is_deeply(hash(tagged('workspace', 'stored')),
              { created_at => $created }, 'in Redis - disabled');
    good('in Redis - enable', 200, 'PUT workspaces/stored',
         { status => 'active' });
    is_deeply(hash(tagged('workspace', 'stored')),
              { active => 1, created_at => $created },
              'in Redis - active again');
}


sub never_in_clear {
    redis_empty();
    redis_cmd('CONFIG', 'SET', 'slowlog-max-len', 10000);
    redis_cmd('CONFIG', 'SET', 'slowlog-log-slower-than', 0);
    redis_cmd('SLOWLOG', 'RESET');

    my $key = create('clear');
    my $made = api('POST keys', { workspace => 'clear', name => 'Once' },
                   headers => ['Idempotency-Key: once'])->{json};
    my $new = api("POST keys/$key->{id}/rotate")->{json};

    use_key($_->{key}) for $key, $made, $new;
    api("GET keys/$key->{id}");
    api('GET keys?workspace=clear');
    api("PATCH keys/$key->{id}", { name => 'Another' });
    api("POST keys/$key->{id}/revoke");
    use_key($key->{key});
    api('PUT workspaces/clear', { status => 'disabled' });

    my $held = everything();
    my $heard = flat(redis_cmd('SLOWLOG', 'GET', 10000));

    redis_cmd('CONFIG', 'SET', 'slowlog-log-slower-than', 10000);

    like($held, qr/\Q@{[sha256_hex($new->{key})]}/, 'the digest is there');
    like($heard, qr/EVAL/, 'Redis was asked');
    cmp_ok(scalar @secrets, '>', 6, 'there are secrets to look for');

    my $bad = join '|', map { quotemeta } @secrets;

    unlike($held, qr/$bad/, 'no key, secret or token in Redis');
    unlike($heard, qr/$bad/, 'none was sent to it');
    unlike($held, qr/\Q@{[sha256_hex($token)]}/,
           'nor the digest of a token');
}


sub showing {
    my $key = create('show', scopes => ['a']);
    my ($got, $res) = good_answer('show', 200, "GET keys/$key->{id}");

    key_is('show', $got, %{ shown($key) });

    # Last use, as somebody else has written it.
    redis_cmd('ZADD', tagged('used', 'show'), 1700000000123, $key->{id});
    key_is('last use', good('last use', 200, "GET keys/$key->{id}"),
           %{ shown($key) }, last_used_at => '2023-11-14T22:13:20.123Z');
    key_is('last use in a list',
           good('last use in a list', 200,
                'GET keys?workspace=show')->{data}[0],
           %{ shown($key) }, last_used_at => '2023-11-14T22:13:20.123Z');

    my $expired = seed_key('old', workspace => 'show', scopes => 'x y',
                           expires_at => 1700000001000);

    key_is('expired', good('expired', 200, 'GET keys/' . key_id($expired)),
           id => key_id($expired), name => 'a key', status => 'expired',
           scopes => ['x', 'y'], expires_at => '2023-11-14T22:13:21.000Z',
           created_at => '2023-11-14T22:13:20.000Z', revoked_at => undef);

    my $both = seed_key('both', workspace => 'show', active => undef,
                        expires_at => 1700000001000,
                        revoked_at => 1700000002000);

    key_is('both', good('both', 200, 'GET keys/' . key_id($both)),
           status => 'revoked', revoked_at => '2023-11-14T22:13:22.000Z');

    # Whatever is not exactly 1 is not active.
    my $odd = seed_key('odd', workspace => 'show', active => '2');

    key_is('odd', good('odd', 200, 'GET keys/' . key_id($odd)),
           status => 'revoked', revoked_at => undef);

    refused('nobody\'s id', '404 not_found',
            'GET keys/' . workspace_tag('show') . 'zzzzzzzz');
}


sub heads {
    my $key = create('head');

    for my $path ("keys/$key->{id}", 'keys?workspace=head', 'workspaces',
                  'workspaces/head', 'openapi.json')
    {
        my $get = api("GET $path");
        my $head = api("HEAD $path");

        is($head->{code}, 200, "HEAD $path");
        is($head->{body}, '', "HEAD $path - no body");
        delete $_->{headers}{date} for $get, $head;
        is_deeply($head->{headers}, $get->{headers},
                  "HEAD $path - the headers of GET");
    }

    my $head = api('HEAD keys/zzzz');

    is($head->{code}, 404, 'HEAD of nothing');
    is($head->{body}, '', 'HEAD of nothing - no body');
}


sub listing {
    my @keys = map { create('list', name => "List of $_") } 1 .. 3;
    my $list = good('list', 200, 'GET keys?workspace=list');

    is(join(' ', sort keys %$list), 'data next_cursor', 'list - members');
    is($list->{next_cursor}, undef, 'list - no more');
    is_deeply([sort map { $_->{id} } @{ $list->{data} }],
              [sort map { $_->{id} } @keys], 'list - all of them');
    key_is('list', $_) for @{ $list->{data} };

    good('list - revoke', 200, "POST keys/$keys[0]{id}/revoke");
    seed_key('old', workspace => 'list', expires_at => 1700000001000);

    my %want = (active => 2, revoked => 1, expired => 1);

    for my $status (sort keys %want) {
        my $list = good("list $status", 200,
                        "GET keys?workspace=list&status=$status");

        is(join(' ', map { $_->{status} } @{ $list->{data} }),
           join(' ', ($status) x $want{$status}), "list $status - only");
    }

    $list = good('list of none', 200, 'GET keys?workspace=nobody');
    is_deeply($list, { data => [], next_cursor => undef },
              'list of none - empty');
    is(redis_cmd('EXISTS', tagged('workspace', 'nobody')), 0,
       'list of none - asking makes no workspace');
}


sub changing {
    my $key = create('change', scopes => ['a']);
    my $call = "PATCH keys/$key->{id}";
    my %now = %{ shown($key) };

    my $changed = sub {
        my ($title, $change, %more) = @_;

        %now = (%now, %$change, %more);

        my $got = good($title, 200, $call, $change);
        key_is($title, $got, %now);
        key_is("$title, kept",
               good("$title, kept", 200, "GET keys/$key->{id}"), %now);
    };

    $changed->('name', { name => "CI/CD \x{20ac}" });
    $changed->('scopes', { scopes => ['orders:read', 'b'] });

    my $used = use_key($key->{key}, '/need');
    is($used->{code}, 200, 'scopes - count at the next request');

    $changed->('no scopes', { scopes => [] });
    fails_scope($key->{key});
    is(use_key($key->{key})->{code}, 200, 'no scopes - still a key');

    $changed->('expiry', { expires_at => '2101-01-01T00:00:00.000Z' });
    $changed->('never', { expires_at => undef });
    $changed->('all', { name => 'Of all', scopes => ['c'],
                        expires_at => '2101-01-01T00:00:00.000Z' });
    $changed->('offset', { expires_at => '2101-01-01T02:30:00+02:30' },
               expires_at => '2101-01-01T00:00:00.000Z');
    $changed->('the last time', { expires_at => '9999-12-31T23:59:59.999Z' });

    my $text = key_for('old', workspace => 'change');

    seed_key('old', workspace => 'change', expires_at => 1700000001000);
    fails('expired - refused', '401 expired', $text);
    key_is('brought back', good('brought back', 200,
               'PATCH keys/' . key_id($text),
               { expires_at => '2101-01-01T00:00:00Z' }),
           status => 'active');
    works('brought back - accepted', $text);

    refused('patch of nobody', '404 not_found',
            'PATCH keys/' . workspace_tag('change') . 'zzzzzzzz',
            { name => 'Nobody' });
    is(redis_cmd('EXISTS', key_name(workspace_tag('change') . 'zzzzzzzz')),
       0, 'patch of nobody - makes nothing');
}


sub soon_over {
    my $key = create('soon');
    my $at = iso(redis_now() + 700);

    good('soon over', 200, "PATCH keys/$key->{id}", { expires_at => $at });
    works('soon over - not yet', $key->{key});
    ok(wait_until(5, sub { use_key($key->{key})->{code} eq '401' }),
       'soon over - refused after a while');
    cmp_ok(redis_now(), '>=', ms($at), 'soon over - and not before');
    fails('soon over - as expired', '401 expired', $key->{key});
    key_is('soon over', good('soon over', 200, "GET keys/$key->{id}"),
           status => 'expired', expires_at => $at);
}


sub revoking {
    my $key = create('revoke', scopes => ['a']);
    my $call = "POST keys/$key->{id}/revoke";

    works('revoke - works before', $key->{key});

    my $from = redis_now();
    my $first = good('revoke', 200, $call);
    my $to = redis_now();

    fails('revoke - refused at the next request', '401 revoked',
          $key->{key});

    delete $first->{$_} for qw(receipt last_used_at);
    key_is('revoke', { %$first, last_used_at => undef },
           %{ shown($key) }, status => 'revoked',
           revoked_at => $first->{revoked_at});
    like($first->{revoked_at}, $time, 'revoke - a time');
    cmp_ok(ms($first->{revoked_at}), '>=', $from, 'revoke - not before');
    cmp_ok(ms($first->{revoked_at}), '<=', $to, 'revoke - not after');

    for my $body (undef, '{}') {
        select undef, undef, undef, 0.005;

        my $again = good('revoke again', 200, $call, $body);

        delete $again->{$_} for qw(receipt last_used_at);
        is_deeply($again, $first, 'revoke again - the same answer');
    }

    # There is no way back.
    key_is('revoked and renamed',
           good('revoked and renamed', 200, "PATCH keys/$key->{id}",
                { name => 'Lost in a train', scopes => ['b'],
                  expires_at => '2101-01-01T00:00:00Z' }),
           name => 'Lost in a train', status => 'revoked',
           revoked_at => $first->{revoked_at});
    good('revoked, never', 200, "PATCH keys/$key->{id}",
         { expires_at => undef });
    fails('revoked and renamed - stays so', '401 revoked', $key->{key});

    my $n = redis_cmd('ZCARD', tagged('index', 'revoke'));

    refused('rotate a revoked one', '409 key_revoked',
            "POST keys/$key->{id}/rotate");
    is(redis_cmd('ZCARD', tagged('index', 'revoke')), $n,
       'rotate a revoked one - no new key');
    fails('rotate a revoked one - stays so', '401 revoked', $key->{key});

    for my $status (qw(disabled active)) {
        good("revoked, workspace $status", 200, 'PUT workspaces/revoke',
             { status => $status });
    }

    fails('revoked, workspace off and on - stays so', '401 revoked',
          $key->{key});
    key_is('revoked, at the end',
           good('revoked, at the end', 200, "GET keys/$key->{id}"),
           status => 'revoked', revoked_at => $first->{revoked_at});

    my $old = seed_key('old', workspace => 'revoke',
                       expires_at => 1700000001000);
    key_is('revoke an expired one',
           good('revoke an expired one', 200,
                'POST keys/' . key_id($old) . '/revoke'),
           status => 'revoked');
    fails('revoke an expired one - counts as revoked', '401 revoked', $old);

    refused('revoke nobody', '404 not_found',
            'POST keys/' . workspace_tag('revoke') . 'zzzzzzzz/revoke');
    is(redis_cmd('EXISTS', key_name(workspace_tag('revoke') . 'zzzzzzzz')),
       0, 'revoke nobody - makes nothing');
}


sub rotating {
    my $never = create('rotate', scopes => ['b', 'a']);
    my $from = redis_now();
    my ($new, $res) = good_answer('rotate', 201,
                                  "POST keys/$never->{id}/rotate");
    my $to = redis_now();

    isnt($new->{id}, $never->{id}, 'rotate - another id');
    isnt(key_secret($new->{key}), key_secret($never->{key}),
         'rotate - another secret');
    is($res->{headers}{location}, "/agntkey/keys/$new->{id}",
       'rotate - Location');
    is_deeply($new->{warnings}, [], 'rotate - warnings');
    key_is('rotate', shown($new), name => 'Nightly report',
           workspace => 'rotate', status => 'active', scopes => ['b', 'a'],
           expires_at => undef, last_used_at => undef, revoked_at => undef,
           hint => "agnt_$new->{id}\x{2026}");
    works('rotate - the new one works', $new->{key});
    works('rotate - and the old one, for now', $never->{key});

    is_deeply(hash(key_name($new->{id})), {
        digest     => sha256_hex($new->{key}),
        active     => 1,
        workspace  => 'rotate',
        name       => 'Nightly report',
        scopes     => 'b a',
        created_at => ms($new->{created_at}),
    }, 'rotate - its record');
    is(redis_cmd('ZSCORE', tagged('index', 'rotate'), $new->{id}),
       ms($new->{created_at}), 'rotate - its place in the index');

    my $old = good('the old one', 200, "GET keys/$never->{id}");
    my $end = ms($old->{expires_at}) - 86400000;

    ok($end >= $from && $end <= $to, 'rotate - a day unless given')
        or diag($old->{expires_at});
    is($old->{status}, 'active', 'the old one - still active');

    # Its end does not move when it is rotated again.
    good('rotate again', 201, "POST keys/$never->{id}/rotate",
         { overlap_seconds => 7776000 });
    is(good('the old one', 200, "GET keys/$never->{id}")->{expires_at},
       $old->{expires_at}, 'rotate again - never prolonged');

    good('rotate again, shorter', 201, "POST keys/$never->{id}/rotate",
         { overlap_seconds => 3600 });
    cmp_ok(ms(good('the old one', 200, "GET keys/$never->{id}")
              ->{expires_at}), '<', $end + 86400000 - 3600000,
           'rotate again, shorter - it counts');

    # No overlap: over at once.
    my $key = create('rotate');
    $new = good('no overlap', 201, "POST keys/$key->{id}/rotate",
                { overlap_seconds => 0, name => 'The second one' });

    fails('no overlap - the old one is over', '401 expired', $key->{key});
    works('no overlap - the new one works', $new->{key});
    is($new->{name}, 'The second one', 'no overlap - a name of its own');
    is($new->{expires_at}, undef, 'no overlap - the new one never expires');
    key_is('no overlap - the old one',
           good('no overlap', 200, "GET keys/$key->{id}"),
           status => 'expired', name => 'Nightly report');
    refused('rotate an expired one', '409 key_expired',
            "POST keys/$key->{id}/rotate", '{}');
    fails('rotate an expired one - stays so', '401 expired', $key->{key});

    # The new one inherits the expiry that the old one had before.
    my $at = iso(redis_now() + 7200000);
    $key = create('rotate', expires_at => $at);
    $new = good('with expiry', 201, "POST keys/$key->{id}/rotate",
                { overlap_seconds => 3600 });

    is($new->{expires_at}, $at, 'with expiry - the new one has it');
    cmp_ok(ms(good('the old one', 200, "GET keys/$key->{id}")
              ->{expires_at}), '<', ms($at) - 3000000,
           'with expiry - the old one is over before');

    $key = create('rotate', expires_at => $at);
    $new = good('expiry first', 201, "POST keys/$key->{id}/rotate", {});

    is($new->{expires_at}, $at, 'expiry first - the new one has it');
    is(good('the old one', 200, "GET keys/$key->{id}")->{expires_at}, $at,
       'expiry first - the old one keeps it');

    # The old one ends with the overlap or before: whichever comes first.
    for my $overlap (0, 1, 59, 86400, 7775999, 7776000) {
        for my $left (undef, 30, 86399, 86401, 7776000, 9999999) {
            my $end = $left && redis_now() + $left * 1000;
            my $title = "overlap $overlap, " . ($left // 'for ever')
                        . ' left';

            $key = create('rotate', $left ? (expires_at => iso($end)) : ());

            my $res = api("POST keys/$key->{id}/rotate",
                          { overlap_seconds => $overlap });
            my $over = ms($res->{json}{created_at}) + $overlap * 1000;

            is($res->{code}, 201, $title) or diag($res->{raw});
            is($res->{json}{expires_at}, $key->{expires_at},
               "$title - the new one has what was left");
            is(hash(key_name($key->{id}))->{expires_at},
               !$end || $over < $end ? $over : $end,
               "$title - the old one ends in time");
        }
    }

    my $poor = good('poor name', 201, "POST keys/$new->{id}/rotate",
                    { name => 'test' });
    is(scalar @{ $poor->{warnings} }, 1, 'poor name - a warning');

    refused('rotate nobody', '404 not_found',
            'POST keys/' . workspace_tag('rotate') . 'zzzzzzzz/rotate');
}


sub workspaces {
    redis_empty();

    is_deeply(good('no workspace', 200, 'GET workspaces'),
              { data => [], next_cursor => undef }, 'no workspace - empty');

    my $key = create('beta');

    create('beta');
    create('alpha');
    create('Z.1_-');
    seed_workspace('hand', fields => { created_at => undef });
    good('workspaces - revoke', 200, "POST keys/$key->{id}/revoke");

    my $list = good('workspaces', 200, 'GET workspaces');

    is($list->{next_cursor}, undef, 'workspaces - no more');
    is_deeply([map { "$_->{name} $_->{status} $_->{keys}" }
               @{ $list->{data} }],
              ['Z.1_- active 1', 'alpha active 1', 'beta active 2',
               'hand active 0'],
              'workspaces - by name, with the number of keys');
    is(join(' ', sort keys %$_), 'created_at keys name status',
       'workspaces - members') for @{ $list->{data} };
    like($_->{created_at}, $time, 'workspaces - created_at')
        for @{ $list->{data} }[0 .. 2];
    is($list->{data}[3]{created_at}, undef, 'workspaces - or null');

    is_deeply(good('one workspace', 200, 'GET workspaces/beta'),
              $list->{data}[2], 'one workspace - as in the list');
    is($list->{data}[2]{created_at}, $key->{created_at},
       'one workspace - as old as its first key');

    # A name whose first key was never made is nobody.
    redis_cmd('ZADD', 'agntkey:workspaces', 0, 'ghost');
    is_deeply(good('a ghost', 200, 'GET workspaces'), $list,
              'a ghost is not in the list');

    refused("no workspace: $_->[0]", '404 not_found', @$_)
        for ['GET workspaces/ghost'], ['GET workspaces/Alpha'],
            ['PUT workspaces/ghost', { status => 'active' }],
            ['PUT workspaces/ghost', { status => 'disabled' }];
    is(redis_cmd('EXISTS', tagged('workspace', 'ghost')), 0,
       'PUT makes no workspace');
}


sub switching {
    my $key = create('switch');
    my $other = create('switch-2');
    my $before = good('switch - before', 200, 'GET workspaces/switch');

    is($before->{status}, 'active', 'switch - active at first');

    for my $try (1, 2) {
        my $off = good("off $try", 200, 'PUT workspaces/switch',
                       { status => 'disabled' });

        is(ref delete $off->{receipt}, 'HASH', "off $try - a receipt");
        is_deeply($off, { %$before, status => 'disabled' }, "off $try");
        fails("off $try - refused at the next request",
              '403 workspace_disabled', $key->{key});
        is(good("off $try", 200, 'GET workspaces/switch')->{status},
           'disabled', "off $try - shown");
        key_is("off $try - the key itself is as it was",
               good("off $try", 200, "GET keys/$key->{id}"),
               status => 'active');
    }

    works('off - others work', $other->{key});

    my $new = create('switch');

    fails('off - a new key is made, and does not work yet',
          '403 workspace_disabled', $new->{key});
    is(good('off', 200, 'GET workspaces/switch')->{status}, 'disabled',
       'off - a new key does not switch it on');

    for my $try (1, 2) {
        is_deeply(good("on $try", 200, 'PUT workspaces/switch',
                       { status => 'active' }),
                  { %$before, keys => 2 }, "on $try");
        works("on $try - works at the next request", $_->{key})
            for $key, $new;
    }
}


sub audited {
    redis_empty();

    my $key = create('audit');
    my $id = $key->{id};
    my $actor = substr sha256_hex($token), 0, 8;
    my @want = ({ action => 'created', id => $id });

    good('audit', 200, "PATCH keys/$id", { name => 'Changed' });
    push @want, { action => 'changed', id => $id, what => 'name' };

    my $later = '2101-01-01T00:00:00.000Z';

    good('audit', 200, "PATCH keys/$id", { expires_at => $later,
                                           scopes => ['a'], name => 'All' });
    push @want, { action => 'changed', id => $id,
                  what => 'name scopes expires_at' };

    # What is as it was is not told again.
    my $before = everything();

    good('audit, no change', 200, "PATCH keys/$id", $_)
        for { name => 'All' }, { scopes => ['a'] }, { expires_at => $later },
            { expires_at => '2101-01-01T02:00:00+02:00' },
            { expires_at => $later, scopes => ['a'], name => 'All' };
    is(everything(), $before, 'audit - no change is no write');

    # Of several members, those that are others now.
    good('audit', 200, "PATCH keys/$id", { name => 'All', scopes => [],
                                           expires_at => undef });
    push @want, { action => 'changed', id => $id,
                  what => 'scopes expires_at' };

    $before = everything();
    good('audit, no change', 200, "PATCH keys/$id", $_)
        for { scopes => [] }, { expires_at => undef };
    is(everything(), $before, 'audit - nor is nothing by nothing');

    my $new = good('audit', 201, "POST keys/$id/rotate");
    push @want, { action => 'rotated', id => $id, new => $new->{id} };

    # The second one of each changes nothing.
    good('audit', 200, "POST keys/$id/revoke") for 1, 2;
    push @want, { action => 'revoked', id => $id };

    good('audit', 200, 'PUT workspaces/audit', { status => 'disabled' })
        for 1, 2;
    push @want, { action => 'changed', workspace => 'audit',
                  what => 'disabled' };

    good('audit', 200, 'PUT workspaces/audit', { status => 'active' })
        for 1, 2;
    push @want, { action => 'changed', workspace => 'audit',
                  what => 'active' };

    # Neither does what only looks, or is refused.
    good('audit', 200, 'GET keys?workspace=audit');
    refused('audit', '409 key_revoked', "POST keys/$id/rotate");
    refused('audit', '400 invalid_member', "PATCH keys/$id", { name => '' });

    my @got = audit('audit');
    my @at = map { delete $_->{at} } @got;

    is_deeply(\@got, [map { { %$_, actor => $actor, from => '127.0.0.1' } }
                      @want], 'audit - who did what, in order')
        or diag($utf8->encode(\@got));
    ok(!(grep { !/^\d{13}\z/ } @at), 'audit - times') or diag("@at");
    is($at[0], ms($key->{created_at}), 'audit - that of the key');
    is($at[4], ms($new->{created_at}), 'audit - that of the new key');
    is($at[5], ms(good('audit', 200, "GET keys/$id")->{revoked_at}),
       'audit - that of the revocation');

    # It has an end: Redis drops the oldest, by the hundred.
    redis_cmd('EVAL', q{for i = 1, 12000 do
                  redis.call('XADD', KEYS[1], '*', 'action', 'old') end}, 1,
              tagged('audit', 'audit'));
    good('audit, many', 200, "PATCH keys/$id", { name => 'The last one' });
    @got = audit('audit');
    cmp_ok(scalar @got, '>=', 10000, 'audit, many - the latest are kept');
    cmp_ok(scalar @got, '<=', 10200, 'audit, many - and no more');
    is($got[-1]{what}, 'name', 'audit, many - the last one');

    # Where no token is asked for, nobody is named, whatever is sent.
    api('POST keys', { workspace => 'open', name => 'Nightly report' },
        prefix => '/open/');
    is((audit('open'))[0]{actor}, 'off', 'audit - without a token');
}


sub openapi {
    open my $in, '<', 'docs/openapi.json' or die "docs/openapi.json: $!\n";
    my $text = do { local $/; <$in> };
    my $got = good('openapi', 200, 'GET openapi.json');

    is_deeply($got, $utf8->decode($text), 'openapi - the one in docs');
    like($got->{openapi}, qr/^3\.1\./, 'openapi - its version');

    my %calls = map {
        my $path = $_;
        map { (uc($_) . " $path") => 1 }
            grep { /^(?:get|post|put|patch|delete|head)\z/ }
            keys %{ $got->{paths}{$path} };
    } keys %{ $got->{paths} };

    delete $calls{$_} for grep { /^HEAD / } keys %calls;
    is(join("\n", sort keys %calls), join("\n", sort
       'POST /keys', 'GET /keys', 'GET /keys/{id}', 'PATCH /keys/{id}',
       'POST /keys/{id}/revoke', 'POST /keys/{id}/rotate',
       'GET /workspaces', 'GET /workspaces/{name}',
       'PUT /workspaces/{name}', 'GET /openapi.json'),
       'openapi - every call of the API');
}


# Bodies that a client may send in pieces, and connections that go on.

sub request_head {
    return join "\r\n", 'POST /agntkey/keys HTTP/1.1', 'Host: a',
                        bearer($token), 'Content-Type: application/json', @_,
                        '', '';
}


sub chunked {
    my $body = '{"workspace":"pieces","name":"In pieces"}';
    my $whole = sprintf "%x\r\n%s\r\n0\r\n\r\n", length $body, $body;
    my $head = request_head('Transfer-Encoding: chunked');
    my $conn = http_start('', raw => $head . $whole);
    my $res = $conn->response;

    is($res->{code}, 201, 'a chunked body') or diag($res->{raw});

    $conn->write($head);
    $conn->write(sprintf "%x\r\n%s\r\n", length, $_)
        for $body =~ /(.{1,7})/g;
    $conn->write("0\r\n\r\n");

    $res = $conn->response;
    is($res->{code}, 201, 'a body of many chunks, on the same connection')
        or diag($res->{raw});

    my $key = api('GET keys?workspace=pieces&limit=1')->{json}{data}[0];

    for my $call ("keys/$key->{id}/rotate", "keys/$key->{id}/revoke") {
        my $res = http("POST /agntkey/$call", body => "0\r\n\r\n",
                       headers => [bearer($token),
                                   'Content-Type: application/json',
                                   'Transfer-Encoding: chunked']);
        like($res->{code}, qr/^20[01]$/, 'a chunked body without a chunk')
            or diag($res->{raw});
    }
}


# As many clients have it: Content-Length: 0.

sub empty_bodies {
    my $key = create('empty');

    for my $call ('rotate', 'revoke', 'revoke') {
        my $res = api("POST keys/$key->{id}/$call", '');

        like($res->{code}, qr/^20[01]$/, "$call - an empty body will do")
            or diag($res->{raw});

        $res = http("POST /agntkey/keys/$key->{id}/$call",
                    headers => [bearer($token), 'Content-Length: 0']);
        isnt($res->{code}, '', "$call - and without a type")
            or diag($res->{raw});
    }
}


sub connections {
    my $body = '{"workspace":"slow","name":"In pieces"}';
    my $conn = http_start('', raw => request_head('Content-Length: '
                                                  . length $body));

    for my $piece ($body =~ /(.{1,7})/g) {
        $conn->write($piece);
        select undef, undef, undef, 0.002;
    }

    my $res = $conn->response;
    is($res->{code}, 201, 'a slow body') or diag($res->{raw});

    my $key = $utf8->decode($res->{body});

    $Agntkey::Key::made{$key->{key}} = 1;

    $conn->write("GET /agntkey/keys/$key->{id} HTTP/1.1\r\nHost: a\r\n"
                 . bearer($token) . "\r\n\r\n");
    is($conn->response->{code}, 200, 'and one without, on its connection');

    # Several at once do not get each other's answers.
    my @keys = map { create('slow', name => "Number $_") } 1 .. 10;
    my @waiting = map {
        http_start("GET /agntkey/keys/$_->{id}", headers => bearer($token))
    } @keys;

    is(join(' ', map { $utf8->decode($_->response->{body})->{id} } @waiting),
       join(' ', map { $_->{id} } @keys), 'answers go where they belong');

    # A client that leaves does no harm.
    http_start('GET /agntkey/keys?workspace=slow',
               headers => bearer($token))->leave for 1 .. 10;
    is(api('GET workspaces/slow')->{code}, 200,
       'after clients that left');
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== creating a key: shown once, and good at the next request
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::creating();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== creating a key takes a workspace and a name; names are text
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::creating_less();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== a poor name is a warning, not an error
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::poor_names();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== what Redis holds is what the contract says
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::in_redis();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== the clear key is nowhere but in one answer
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::never_in_clear();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== showing a key
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::showing();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== HEAD is GET without a body
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::heads();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== listing keys, all or those of a status
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::listing();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== changing a key
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::changing();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== a key is refused from its expiry on
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::soon_over();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== revoking is for the next request, and for good
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::revoking();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== rotating: a new key, and an end of the old one
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::rotating();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== workspaces come with their first key
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::workspaces();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== a workspace that is switched off, and on again
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::switching();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== every change is in the audit stream, once
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::audited();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== the API describes itself
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::openapi();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== a body in chunks
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::chunked();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== a body of no bytes
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::empty_bodies();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]



=== slow bodies, and many calls at once
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::connections();
--- request
GET /v1
--- error_code: 401
--- no_error_log
[error]
