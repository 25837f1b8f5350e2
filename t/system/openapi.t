# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# docs/openapi.json is a valid document, and it says what the API does: each
# call is made, each answer and each code of it is brought about, and all of
# them are held against the document.  What it documents and nobody has seen
# is an error, and so is what is seen and not documented.
#
# The validators are in node; t/openapi/package-lock.json says which, and npm
# fetches them into the build directory, once.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Digest::SHA qw(sha256_hex);
use Encode qw(decode);
use File::Basename qw(basename);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use JSON::PP ();
use Test::More;

my $utf8 = JSON::PP->new->utf8->canonical->allow_nonref;
my $node = Agntkey::build_dir() . '/openapi';


# --- the validators

sub text_of {
    my ($file) = @_;

    open my $in, '<', $file or return '';
    local $/;
    return <$in>;
}


# True, or the reason why they are not there.

sub install {
    my @files = map { "t/openapi/$_" } qw(.npmrc package.json
                                          package-lock.json check.mjs);
    my $lock = "$node/package-lock.json";
    my $done = "$node/node_modules/.package-lock.json";
    my $same = -f $done && text_of($lock) eq text_of($files[2]);

    return 'there is no npm: install nodejs and npm'
        if system 'command -v npm >/dev/null && command -v node >/dev/null';

    remove_tree("$node/node_modules") if !$same;
    make_path($node);

    for my $file (@files) {
        copy($file, "$node/" . basename($file)) or return "$file: $!";
    }

    return '' if $same;

    my $out = qx{cd '$node' && npm ci --no-audit --no-fund \\
                 --ignore-scripts 2>&1};

    return '' if $? == 0 && -f $done;

    remove_tree("$node/node_modules");
    return 'npm could not fetch the packages of '
           . "t/openapi/package-lock.json (is there a network?):\n$out";
}


if (my $reason = install()) {
    ok(0, 'the validators are there') or diag($reason);
    done_testing();
    exit;
}


# --- nginx: with a Redis, without one, and with one that is out of its mind

my $token = join '', map { sprintf '%08x', rand 2 ** 32 } 1 .. 8;
my $tokens = test_dir() . '/tokens';

$Agntkey::Key::made{$token} = 1;

open my $out, '>', $tokens or die "$tokens: $!\n";
print $out sha256_hex($token), "\n";
close $out;

my $server = <<"_EOC_";
location /agntkey/ {
    agntkey_admin on;
    agntkey_admin_token_file $tokens;
}

location /few/ {
    agntkey_admin on;
    agntkey_admin_token_file $tokens;
    agntkey_admin_max_keys 1;
}

location /pinned/ {
    agntkey_admin on;
    agntkey_admin_token_file $tokens;
    agntkey_admin_workspace \$http_x_workspace;
}
_EOC_

redis_start();
fake_redis(rules => [
    # A call that is to be lost says so by the key that it is about.
    { match => qr/^EVAL .*lost/s, do => 'close' },
    { match => qr/^(?:EVAL|ZRANGEBYLEX|HMGET|ZCARD)/, do => ":1\r\n" },
]);

sub nginx {
    my ($name, $redis) = @_;

    return Agntkey::Nginx->new(
        name => $name, port => free_port(), server => $server,
        log_level => 'notice',
        http => "agntkey_redis redis://127.0.0.1:$redis;",
    )->start;
}

my $nginx = nginx('real', $ENV{TEST_NGINX_REDIS_PORT});
my $none = nginx('none', $ENV{TEST_NGINX_CLOSED_PORT});
my $odd = nginx('odd', $ENV{TEST_NGINX_FAKE_PORT});


# --- exchanges

my @exchanges;
my $mask = 'x' x 50;

# call('POST /keys', 'what it is about', path => 'keys', body => object or
#      text, status => what is expected, ...), with "query" a list, "conforms"
# as check.mjs has it; the answer's body.

sub call {
    my ($operation, $title, %opt) = @_;
    my ($method) = $operation =~ /^(\w+)/;
    my $path = $opt{path} // ($operation =~ s{^\w+ /}{}r);
    my $body = $opt{body};
    my $where = $opt{nginx} // $nginx;
    my @query = @{ $opt{query} // [] };
    my @headers = @{ $opt{headers} // [] };
    my @pairs;

    push @headers, bearer($opt{token} // $token) if !$opt{no_token};
    push @headers, 'Content-Type: application/json'
        if defined $body && !grep { /^Content-Type/ } @headers;

    while (my ($name, $value) = splice @query, 0, 2) {
        push @pairs, "$name=$value";
    }

    my $res = http(
        ($opt{method} // $method) . ' ' . ($opt{prefix} // '/agntkey/')
        . $path . (@pairs ? '?' . join '&', @pairs : ''),
        port => $where->{port}, headers => \@headers, timeout => 20,
        body => ref $body ? $utf8->encode($body) : $body);

    my $json = eval { $utf8->decode($res->{body}) };

    if (ref $json eq 'HASH' && $json->{key}) {
        $Agntkey::Key::made{$_} = 1
            for $json->{key}, key_secret($json->{key});
    }

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $got = ref $json eq 'HASH' && $json->{type} ? " $json->{code}" : '';
    is("$res->{code}$got", $opt{is}, "$operation: $title")
        or diag($res->{raw});

    # A key in a file would be one too many.
    push @exchanges, {
        operation => $operation,
        title     => "$title, $opt{is}",
        status    => 0 + ($res->{code} || 0),
        type      => ($res->{headers}{'content-type'} // '') =~ s/;.*//r,
        headers   => $res->{headers},
        text      => decode('UTF-8', $res->{body}
                                     =~ s/("key":"\w{5})\w{50}"/$1$mask"/r),
        query     => { @{ $opt{query} // [] } },
        body      => ref $body ? $body : undef,
        conforms  => exists $opt{conforms} ? $opt{conforms}
                     : defined $opt{method} || defined $body && !ref $body
                       ? undef
                     : $opt{is} =~ /^2/ ? JSON::PP::true
                     : $opt{is} =~ /^400 \w+_member$/ ? JSON::PP::false
                     : undef,
    };

    return $json;
}


# What there is to ask for: a key that is revoked, one that has expired.

my $id = call('POST /keys', 'the least', is => 201,
              body => { workspace => 'acme', name => 'Report' })->{id};

my $missing = substr($id, 0, 4) . '00000000';
my $revoked = key_id(seed_key('revoked', active => undef,
                              revoked_at => 1700000000000));
my $expired = key_id(seed_key('expired', expires_at => 1700000001000));

my $later = '2101-01-31T12:00:00Z';

call('POST /keys', 'all members', is => 201, body => {
    workspace => 'beta', name => 'Test', scopes => ['orders:read', 'b'],
    expires_at => $later });
call('POST /keys', 'null', is => 201, body => {
    workspace => 'acme', name => "\x{1f511} \"", scopes => [],
    expires_at => undef });
call('POST /keys', 'pinned', is => 201, prefix => '/pinned/',
     headers => ['X-Workspace: acme'], body => { name => 'Report' });
call('POST /keys', 'an Idempotency-Key', is => 201,
     headers => ['Idempotency-Key: once'],
     body => { workspace => 'acme', name => 'Report' });
call('POST /keys', 'an Idempotency-Key again',
     is => '409 idempotency_conflict', headers => ['Idempotency-Key: once'],
     body => { workspace => 'acme', name => 'Report' });
call('POST /keys', 'an Idempotency-Key that is none',
     is => '400 invalid_idempotency_key',
     headers => ['Idempotency-Key: a b'],
     body => { workspace => 'acme', name => 'Report' });
call('POST /keys', 'no workspace', is => '400 missing_member',
     body => { name => 'Report' }, conforms => undef);
call('POST /keys', 'no name', is => '400 missing_member',
     body => { workspace => 'acme' });
call('POST /keys', 'a bad value', is => '400 invalid_member', body => $_)
    for { workspace => '-', name => 'a' },
        { workspace => 'a' x 65, name => 'a' },
        { workspace => 'acme', name => '' },
        { workspace => 'acme', name => 'x' x 101 },
        { workspace => 'acme', name => "a\x01" },
        { workspace => 'acme', name => "a\x{85}" },
        { workspace => 'acme', name => 1 },
        { workspace => 'acme', name => 'a', scopes => ['a', 'a'] },
        { workspace => 'acme', name => 'a', scopes => ['a b'] },
        { workspace => 'acme', name => 'a', scopes => [1 .. 33] },
        { workspace => 'acme', name => 'a', scopes => [1] },
        { workspace => 'acme', name => 'a', expires_at => 'tomorrow' },
        { workspace => 'acme', name => 'a', expires_at => 4102444800 };
call('POST /keys', 'a member of no call', is => '400 unknown_member',
     body => { workspace => 'acme', name => 'a', status => 'active' });

my $page = call('GET /keys', 'a list', is => 200,
                query => [workspace => 'acme', limit => 1]);

call('GET /keys', 'the next page', is => 200, query => [
    workspace => 'acme', limit => 100, cursor => $page->{next_cursor} ]);
call('GET /keys', "those that are $_", is => 200,
     query => [workspace => 'acme', status => $_])
    for qw(active revoked expired);
call('GET /keys', 'pinned', is => 200, prefix => '/pinned/',
     headers => ['X-Workspace: acme']);
call('GET /keys', 'a bad cursor', is => '400 invalid_cursor',
     query => [workspace => 'acme', cursor => 'x']);
call('GET /keys', 'another workspace', is => '404 not_found',
     prefix => '/pinned/', headers => ['X-Workspace: acme'],
     query => [workspace => 'beta']);
call('POST /keys', 'another workspace', is => '404 not_found',
     prefix => '/pinned/', headers => ['X-Workspace: acme'],
     body => { workspace => 'beta', name => 'Report' }, conforms => undef);

call('GET /keys/{id}', 'a key', is => 200, path => "keys/$_")
    for $id, $revoked, $expired;

call('PATCH /keys/{id}', 'a change', is => 200, path => "keys/$id",
     body => $_)
    for { name => 'Nightly report' }, { scopes => ['a'] },
        { expires_at => $later }, { expires_at => undef },
        { name => 'Report', scopes => [], expires_at => undef };
call('PATCH /keys/{id}', 'nothing', is => '400 missing_member',
     path => "keys/$id", body => {});
call('PATCH /keys/{id}', 'a bad value', is => '400 invalid_member',
     path => "keys/$id", body => $_)
    for { name => undef }, { scopes => undef }, { expires_at => '' };
call('PATCH /keys/{id}', 'a member of no change', is => '400 unknown_member',
     path => "keys/$id", body => { workspace => 'beta' });

call('POST /keys/{id}/rotate', 'rotated', is => 201, %$_)
    for { path => "keys/$id/rotate" },
        { path => "keys/$id/rotate", body => {} },
        { path => "keys/$id/rotate",
          body => { overlap_seconds => 7776000, name => 'Report' } };
call('POST /keys/{id}/rotate', 'an Idempotency-Key', is => 201,
     path => "keys/$id/rotate", headers => ['Idempotency-Key: turn']);
call('POST /keys/{id}/rotate', 'an Idempotency-Key again',
     is => '409 idempotency_conflict', path => "keys/$id/rotate",
     headers => ['Idempotency-Key: turn']);
call('POST /keys/{id}/rotate', 'an Idempotency-Key that is none',
     is => '400 invalid_idempotency_key', path => "keys/$id/rotate",
     headers => ['Idempotency-Key: a b']);
seed_key('gone', workspace => 'gone', no_workspace => 1);
call('POST /keys', 'a workspace without a record', is => '409 workspace_deleted',
     body => { workspace => 'gone', name => 'Report' });
call('POST /keys', 'too many keys', is => '409 too_many_keys',
     prefix => '/few/', body => { workspace => 'acme', name => 'Report' });
call('POST /keys/{id}/rotate', 'too many keys', is => '409 too_many_keys',
     prefix => '/few/', path => "keys/$id/rotate");
call('POST /keys/{id}/rotate', 'a bad value', is => '400 invalid_member',
     path => "keys/$id/rotate", body => $_)
    for { overlap_seconds => 7776001 }, { overlap_seconds => -1 },
        { overlap_seconds => 1.5 }, { overlap_seconds => undef },
        { name => '' };
call('POST /keys/{id}/rotate', 'a member of no rotation',
     is => '400 unknown_member', path => "keys/$id/rotate",
     body => { scopes => [] });
call('POST /keys/{id}/rotate', 'a revoked key', is => '409 key_revoked',
     path => "keys/$revoked/rotate");
call('POST /keys/{id}/rotate', 'an expired key', is => '409 key_expired',
     path => "keys/$expired/rotate");

call('POST /keys/{id}/revoke', 'revoked', is => 200, %$_)
    for { path => "keys/$id/revoke" },
        { path => "keys/$id/revoke", body => {} };
call('POST /keys/{id}/revoke', 'a member', is => '400 unknown_member',
     path => "keys/$id/revoke", body => { name => 'a' });

$page = call('GET /workspaces', 'a list', is => 200, query => [limit => 1]);
call('GET /workspaces', 'the next page', is => 200,
     query => [limit => 100, cursor => $page->{next_cursor}]);
call('GET /workspaces', 'pinned', is => 200, prefix => '/pinned/',
     headers => ['X-Workspace: acme']);
call('GET /workspaces', 'a bad cursor', is => '400 invalid_cursor',
     query => [cursor => '-']);

seed_workspace('hand', fields => { created_at => undef });
call('GET /workspaces/{name}', 'a workspace', is => 200,
     path => "workspaces/$_") for 'acme', 'hand';
call('PUT /workspaces/{name}', 'switched', is => 200,
     path => 'workspaces/acme', body => { status => $_ })
    for 'disabled', 'active';
call('PUT /workspaces/{name}', 'a bad value', is => '400 invalid_member',
     path => 'workspaces/acme', body => { status => 'on' });
call('PUT /workspaces/{name}', 'nothing', is => '400 missing_member',
     path => 'workspaces/acme', body => {});
call('PUT /workspaces/{name}', 'a member of others',
     is => '400 unknown_member', path => 'workspaces/acme',
     body => { status => 'active', name => 'a' });

call('GET /openapi.json', 'the document', is => 200);


# What any of them may answer: how to ask for it, what it is about when it is
# not there, and how Redis sees it.

my @calls = (
    ['POST /keys', 'keys', { workspace => 'acme', name => 'Report' }],
    ['GET /keys', 'keys', undef, [workspace => 'acme']],
    ['GET /keys/{id}', 'keys/%s'],
    ['PATCH /keys/{id}', 'keys/%s', { name => 'a' }],
    ['POST /keys/{id}/revoke', 'keys/%s/revoke', {}],
    ['POST /keys/{id}/rotate', 'keys/%s/rotate', {}],
    ['GET /workspaces', 'workspaces'],
    ['GET /workspaces/{name}', 'workspaces/acme'],
    ['PUT /workspaces/{name}', 'workspaces/acme', { status => 'active' }],
    ['GET /openapi.json', 'openapi.json'],
);

for my $one (@calls) {
    my ($operation, $path, $body, $query) = @$one;
    my $about = sub { $path =~ s{%s}{$_[0]}r };
    my $reads = $operation =~ /^GET/;
    my $asks = $operation !~ /openapi/;
    my @as_is = (path => $about->($id), body => $body,
                 query => $query // []);

    call($operation, 'no token', is => '401 token_missing', @as_is,
         no_token => 1);
    call($operation, 'another token', is => '401 token_unknown', @as_is,
         token => 'x');
    call($operation, 'pinned to nothing', is => '403 workspace_missing',
         @as_is, prefix => '/pinned/');
    call($operation, 'another method', is => '405 method_not_allowed',
         @as_is, method => 'DELETE');
    call($operation, 'an unknown parameter', is => '400 invalid_query',
         @as_is, query => [offset => 1], conforms => undef);

    call($operation, 'nothing is there', is => '404 not_found', @as_is,
         path => $path =~ /%s/ ? $about->($missing) : 'workspaces/nobody')
        if $path =~ m{/};

    if ($asks) {
        call($operation, 'no Redis', is => '503 store_unavailable', @as_is,
             nginx => $none);
        call($operation, 'a Redis out of its mind', is => '500 internal',
             @as_is, nginx => $odd);
    }

    next if $reads;

    call($operation, 'no JSON', is => '400 invalid_json', @as_is,
         body => '{');
    call($operation, 'too large a body', is => '413 body_too_large', @as_is,
         body => ' ' x 16385);
    call($operation, 'another type', is => '415 unsupported_media_type',
         @as_is, headers => ['Content-Type: text/plain']);
    call($operation, 'the reply is lost', is => '503 store_unknown', @as_is,
         nginx => $odd, conforms => undef,
         $path =~ /%s/ ? (path => $about->(substr($id, 0, 4) . 'lost0000'))
         : $path =~ m{/} ? (path => 'workspaces/lost')
         : (body => { %$body, name => 'lost' }));

    call($operation, 'no body', is => '400 invalid_json',
         path => $about->($id), conforms => JSON::PP::false)
        if $operation !~ /revoke|rotate/;
}


# --- the verdict

my $file = test_dir() . '/exchanges.json';

open $out, '>', $file or die "$file: $!\n";
print $out $utf8->encode(\@exchanges);
close $out;

my $said = qx{node '$node/check.mjs' docs/openapi.json '$file'};
my $results = eval { $utf8->decode($said) };

is($?, 0, 'the check has run');
ok(ref $results eq 'ARRAY' && @$results >= @exchanges, 'and says something')
    or diag($said);

for my $result (@{ $results // [] }) {
    my ($passed, $title, $details) = @$result;
    ok($passed, "document: $title") or diag($details =~ s/[^\n -~]/?/gr);
}

# The code that runs says which it is, and the document is of the same.
{
    my $version = eval {
        $utf8->decode(http('GET /agntkey/openapi.json',
                           port => $nginx->{port},
                           headers => bearer($token))->{body})->{info}{version};
    } // '';

    like($version, qr/^\d+\.\d+\.\d+$/, 'a version in the document');
    is(scalar($nginx->lines(qr/\[notice\] .*agntkey: version \Q$version\E$/)),
       1, 'and in the log');
}

for ($nginx, $none, $odd) {
    ok(defined $_->quit, 'quit');
}

logs_clean();
done_testing();
