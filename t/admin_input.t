# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Bad input to the admin API: each a clear refusal that says what is wrong,
# changes nothing and, as far as the text alone can tell, asks Redis nothing.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Digest::SHA qw(sha256_hex);
use Encode ();
use JSON::PP ();
use Test::Nginx::Socket 'no_plan';

worker_connections(2048);
redis_start();

my $utf8 = JSON::PP->new->utf8->canonical;
my $token = join '', map { sprintf '%08x', rand 2 ** 32 } 1 .. 8;

$Agntkey::Key::made{$token} = 1;

open my $out, '>', test_dir() . '/tokens' or die "tokens: $!\n";
print $out sha256_hex($token), "\n";
close $out;

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT;
    agntkey_redis_timeout 10s;
    agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        location /agntkey/ {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/tokens;
        }

        # Without a slash at its end.
        location /bare {
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/tokens;
        }

        location /small/ {
            client_body_buffer_size 1k;
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/tokens;
        }

        location /file/ {
            client_body_in_file_only clean;
            agntkey_admin on;
            agntkey_admin_token_file $TEST_NGINX_TEST_DIR/tokens;
        }
_EOC_

my $json = 'Content-Type: application/json';


# --- asking the API

# api('PATCH keys/...', { ... } or text, headers => [...]): a response, with
# its body as "json".

sub api {
    my ($call, $body, %opt) = @_;
    my $conn = api_start($call, $body, %opt);

    return answer($conn);
}


sub api_start {
    my ($call, $body, %opt) = @_;
    my ($method, $path) = split / /, $call, 2;
    my $prefix = $opt{prefix} // '/agntkey/';

    $body = $utf8->encode($body) if ref $body;

    return http_start("$method $prefix$path", body => $body, headers => [
        bearer($token),
        @{ $opt{headers} // (defined $body ? [$json] : []) },
    ]);
}


sub answer {
    my ($conn) = @_;
    my $res = $conn->response;

    $res->{json} = eval { $utf8->decode($res->{body}) };
    $res->{json} = {} if ref $res->{json} ne 'HASH';
    $Agntkey::Key::made{ $res->{json}{key} } = 1 if $res->{json}{key};
    return $res;
}


# problem_is($res, '400 invalid_member', qr/"name"/, $title)

sub problem_is {
    my ($res, $want, $detail, $title) = @_;
    my ($status, $code) = split / /, $want, 2;
    my $problem = $res->{json};
    my $headers = $res->{headers};
    my $got = "$res->{code} " . ($problem->{code} // '(no code)');
    my @wrong;

    push @wrong, $got if $got !~ /^$status (?:$code)\z/;
    push @wrong, 'type ' . ($headers->{'content-type'} // '(none)')
        if ($headers->{'content-type'} // '') ne 'application/problem+json';
    push @wrong, 'no no-store'
        if ($headers->{'cache-control'} // '') ne 'no-store';
    push @wrong, 'members ' . join ' ', sort keys %$problem
        if join(' ', sort grep { $_ ne 'id' } keys %$problem)
           ne 'code detail status title type';
    push @wrong, 'another type'
        if ($problem->{type} // '')
           ne 'urn:agntkey:problem:' . ($problem->{code} // '');
    push @wrong, 'another status' if ($problem->{status} // '') ne $status;
    push @wrong, "detail not like $detail"
        if $detail && ($problem->{detail} // '') !~ $detail;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok(!@wrong, $title) or diag(join "\n", @wrong, $res->{raw});
}


# What is wrong with the text is seen before Redis is asked.

sub unasked {
    my ($title, $code) = @_;
    my @asking = qw(eval evalsha zrangebylex zadd hmget);
    my $before = redis_commands_count(@asking);
    my $records = records();

    $code->();

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is(redis_commands_count(@asking), $before,
       "$title - Redis was not asked");
    is(records(), $records, "$title - nothing has changed");
}


# All that Redis holds, but the uses of keys.

sub records {
    my @lines;

    for my $key (sort grep { !/^agntkey:(?:used|workers|registry)/ }
                      @{ redis_cmd('KEYS', '*') })
    {
        push @lines, $key, unpack 'H*', redis_cmd('DUMP', $key);
    }

    return join "\n", @lines;
}


# A clean slate; then rows of [title, body, code, detail] for one call.

sub fresh {
    redis_empty();
    redis_cmd('CONFIG', 'RESETSTAT');
}


sub bad_bodies {
    my ($call, @rows) = @_;

    unasked("$call, " . @rows . ' bodies', sub {
        for my $row (@rows) {
            my ($title, $body, $code, $detail) = @$row;

            problem_is(api($call, $body), "400 $code", $detail,
                       "$call: $title" =~ s/[^ -~]/?/gr);
        }
    });
}


# What is to be done with one member, the others being as they should.

sub bad_values {
    my ($call, $member, $rest, @values) = @_;

    bad_bodies($call, map {
        my $value = ref || !defined ? $utf8->encode([$_]) =~ s/^\[|\]$//gr
                                    : $_;
        ["$member $value" =~ s/(?<=.{60}).+/.../sr,
         '{' . join(',', qq("$member":$value), $rest || ()) . '}',
         'invalid_member', qr/"$member"/];
    } @values);
}


sub quoted { return map { $utf8->encode([$_]) =~ s/^\[|\]$//gr } @_ }

sub id_of { return key_id(key_for($_[0])) }


# --- bodies

my $good = '{"workspace":"acme","name":"Nightly report"}';

sub no_json {
    fresh();

    my $cut = substr $good, 0, -1;
    my @rows = map { [@$_, 'invalid_json'] }
        ['a space', ' '],
        ['null', 'null'],
        ['a number', '1'],
        ['a string', '"x"'],
        ['true', 'true'],
        ['an array', '[]'],
        ['an object in an array', "[$good]"],
        ['"{"', '{'],
        ['"}"', '}'],
        ['cut off', $cut],
        ['cut off in a string', substr $good, 0, -5],
        ['cut off after a colon', '{"name":'],
        ['cut off after a comma', '{"name":"a",'],
        ['text behind', "${good}x"],
        ['a comma behind', "$good,"],
        ['a brace behind', "$good}"],
        ['another object behind', "$good\n$good"],
        ['a NUL behind', "$good\0"],
        ['a NUL in front', "\0$good"],
        ['a comma too many', '{"name":"a",}'],
        ['single quotes', "{'name':'a'}"],
        ['no quotes', '{name:"a"}'],
        ['NaN', '{"name":NaN}'],
        ['Infinity', '{"name":Infinity}'],
        ['a comment', "/* a */ $good"],
        ['a mark of byte order', "\xef\xbb\xbf$good"],
        ['UTF-16', Encode::encode('UTF-16LE', $good)],
        ['a form', 'workspace=acme&name=a'],
        ['XML', '<name>a</name>'],
        ['an octal number', '{"name":010}'],
        ['a control character in a string', qq({"name":"a\nb"})],
        ['a NUL in a string', qq({"name":"a\0b"})],
        ['an unknown escape', '{"name":"\x41"}'],
        ['a short escape', '{"name":"\u00e"}'],
        ['deep arrays', '[' x 16000],
        ['deep arrays, closed', '[' x 8000 . ']' x 8000],
        ['deep objects', '{"a":' x 3000],
        ['a deep value', '{"name":' . '[' x 8000 . ']' x 8000 . '}'],
        ['the same member twice', '{"workspace":"acme","name":"a",'
                                  . '"name":"a"}'],
        ['two of one name', '{"workspace":"acme","name":"a","name":"b"}'],
        ['two of one name, one of them in disguise',
         '{"workspace":"acme","name":"a","n\u0061me":"b"}'],
        ['an unknown one twice', '{"x":1,"x":1}'];

    bad_bodies($_, @rows)
        for 'POST keys', 'PATCH keys/' . id_of('one'),
            'PUT workspaces/acme', 'POST keys/' . id_of('one') . '/rotate',
            'POST keys/' . id_of('one') . '/revoke';

    # Where one is needed, none at all is a bad one.
    problem_is(api($_), '400 invalid_json', undef, "$_: no body")
        for 'POST keys', 'PATCH keys/' . id_of('one'), 'PUT workspaces/acme';
}


sub not_utf8 {
    fresh();

    for my $bytes ("\xff", "\xfe", "\x80", "\xc3", "\xc3(", "\xc0\x80",
                   "\xc1\xbf", "\xe0\x80\x80", "\xe2\x82", "\xed\xa0\x80",
                   "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
                   "\xf8\x88\x80\x80\x80", "a\xe4b")
    {
        my $hex = unpack 'H*', $bytes;

        bad_bodies('POST keys',
            ["$hex in a name", qq({"workspace":"acme","name":"a$bytes"}),
             'invalid_json'],
            ["$hex in a scope", qq({"workspace":"acme","name":"a",)
                                . qq("scopes":["$bytes"]}), 'invalid_json'],
            ["$hex in a member", qq({"$bytes":1}), 'invalid_json']);
    }

    # Escapes that stand for no character, or for none of text.
    bad_bodies('POST keys', map {
        ["escape $_", qq({"workspace":"acme","name":"a$_"}),
         'invalid_(?:json|member)']
    } '\u0000', '\ud800', '\udc00', '\udfff', '\ud800x', '\ud800\u0041',
      '\udc00\ud800', '\ud83d\ud83d');

    bad_bodies('POST keys', ['an escaped NUL in a member',
                             '{"name\u0000":"a"}',
                             'invalid_json|unknown_member']);
}


sub members {
    fresh();

    my %unknown = (
        'POST keys' => [qw(status digest id key active created_at
                           revoked_at last_used_at hint overlap_seconds
                           expires scope Name NAME), 'name ', '', '*', '%s',
                        '"', '\\', "\x{20ac}"],
        'PATCH keys/' . id_of('one')
            => [qw(status digest id key active workspace created_at
                   revoked_at last_used_at hint overlap_seconds)],
        'POST keys/' . id_of('one') . '/revoke'
            => [qw(name status active reason)],
        'POST keys/' . id_of('one') . '/rotate'
            => [qw(scopes expires_at workspace status digest id overlap)],
        'PUT workspaces/acme' => [qw(name active keys created_at id)],
    );

    for my $call (sort keys %unknown) {
        bad_bodies($call, map {
            [qq(unknown member "$_"), $utf8->encode({ $_ => 'a' }),
             'unknown_member', qr/"\Q$_\E"/]
        } @{ $unknown{$call} });
    }

    # Among good ones, it is still refused.
    bad_bodies('POST keys', map {
        ["$_ among others",
         qq({"workspace":"acme","name":"a","$_":"x"}), 'unknown_member',
         qr/"$_"/]
    } qw(status digest id));

    bad_bodies('POST keys',
        ['no workspace', '{"name":"a"}', 'missing_member', qr/"workspace"/],
        ['no name', '{"workspace":"acme"}', 'missing_member', qr/"name"/],
        ['nothing', '{}', 'missing_member', qr/"(?:name|workspace)"/]);
    bad_bodies('PATCH keys/' . id_of('one'),
        ['nothing', '{}', 'missing_member', qr/"name"/]);
    bad_bodies('PUT workspaces/acme',
        ['nothing', '{}', 'missing_member', qr/"status"/]);
}


# The name of a member may be long, and end anywhere.

sub long_members {
    fresh();

    bad_bodies('POST keys', map {
        [length($_) . ' characters', $utf8->encode({ $_ => 1 }),
         'unknown_member']
    } 'x' x 64, 'x' x 65, 'x' x 15000);
}


sub long_members_utf8 {
    fresh();

    bad_bodies('POST keys', map {
        ['many bytes, ' . length($_), $utf8->encode({ $_ => 1 }),
         'unknown_member']
    } map { my $x = $_; map { 'x' x $_ . $x x 100 } 0 .. 3 }
      "\x{e9}", "\x{20ac}", "\x{1f511}");
}


my @types = qw(null true false 0 1 -1 1.5 [] {} [null] ["a"] {"a":1});

sub grep_types { my ($not) = @_; return grep { $_ !~ $not } @types }

my @calls = (['POST keys', '"workspace":"acme"'],
             ['PATCH keys/' . id_of('one'), ''],
             ['POST keys/' . id_of('one') . '/rotate', '']);


sub names {
    fresh();

    my @bad = (@types, quoted('', 'x' x 101, "\x{e4}" x 101,
                              "\x{1f511}" x 101, "a\x01", "\n", "a\tb",
                              "\x7f", "a\x{80}", "\x{85}", "\x{9f}"),
               '"\u0001"', '"\u001f"', '"\u007f"');

    bad_values($_->[0], 'name', $_->[1], @bad) for @calls;

    # What is just not too much.
    for my $name ('x', '0', 'x' x 100, "\x{e4}" x 100, "\x{1f511}" x 100,
                  "\x{a0}", "\x{10ffff}", "\x{feff}")
    {
        my $res = api('POST keys', { workspace => 'acme', name => $name });

        is($res->{code}, 201, 'a name of ' . length($name) . ' characters')
            or diag($res->{raw});
        is($res->{json}{name}, $name, 'and the same in the answer');
    }

    my $res = api('POST keys',
                  '{"workspace":"acme","name":"\ud83d\udd11\u00e4\/\""}');
    is($res->{json}{name}, "\x{1f511}\x{e4}/\"", 'escapes in a name')
        or diag($res->{raw});
}


sub workspace_names {
    fresh();

    my @bad = ('', '-a', '.a', '_a', 'a b', 'a/b', 'a:b', ' a', 'a ', 'a*',
               "\x{e4}", 'a{b}', "a\n", '..', 'a' x 65, '$a');

    bad_values('POST keys', 'workspace', '"name":"a"', @types,
               quoted(@bad));

    is(api('POST keys', { workspace => $_, name => 'Good' })->{code}, 201,
       "workspace $_")
        for 'a', '0', 'A.b_c-d', 'a' x 64, 'a..', 'null';
}


sub scopes {
    fresh();

    my @bad = (grep_types(qr/^\[(?:"a")?\]$/),
               '"a"', '[1]', '[true]', '["a",null]', '[["a"]]', '[{}]',
               map { $utf8->encode($_) }
                   [''], ['a b'], [' a'], ['a '], ['-a'], ['.a'], [':a'],
                   ['/a'], ['a"'], ['a\\'], ['a,b'], ["a\n"], ["\x{e4}"],
                   ['a*'], ['a' x 65], ['a', 'a'], ['a', 'b', 'a'],
                   ['a', ''], [map { "s$_" } 1 .. 33]);

    bad_values('POST keys', 'scopes', '"workspace":"acme","name":"a"', @bad);
    bad_values('PATCH keys/' . id_of('one'), 'scopes', '', @bad);

    my @most = map { sprintf 's%063d', $_ } 1 .. 32;

    for my $good ([], ['a'], ['a', 'A', 'aa'], ['a.b_c:d/e-f'], \@most) {
        my $res = api('POST keys', { workspace => 'acme', name => 'Good',
                                     scopes => $good });
        is_deeply($res->{json}{scopes}, $good, @$good . ' scopes')
            or diag($res->{raw});
    }
}


sub times {
    fresh();

    my ($s) = @{ redis_cmd('TIME') };
    my @t = gmtime $s - 1;
    my $past = sprintf '%04d-%02d-%02dT%02d:%02d:%02dZ', $t[5] + 1900,
                       $t[4] + 1, @t[3, 2, 1, 0];

    my @past = ('2001-01-01T00:00:00Z', '1970-01-01T00:00:00.001Z', $past);
    my @bad = ((grep_types(qr/^null$/)), 4102444800, 4102444800000, '1e12',
               99999999999, quoted(
        # before there was time
        '1970-01-01T00:00:00Z', '1969-12-31T23:59:59Z',
        '0000-01-01T00:00:00Z', '0001-01-01T00:00:00Z',
        # beyond 9999
        '10000-01-01T00:00:00Z', '99999-01-01T00:00:00Z',
        '+10000-01-01T00:00:00Z', '9999-12-31T23:59:59-00:01',
        '9999-12-31T23:59:59.999-23:59',
        # impossible
        '2101-02-29T00:00:00Z', '2100-02-29T00:00:00Z',
        '2101-02-30T00:00:00Z', '2101-04-31T00:00:00Z',
        '2101-01-32T00:00:00Z', '2101-01-00T00:00:00Z',
        '2101-13-01T00:00:00Z', '2101-00-01T00:00:00Z',
        '2101-01-01T24:00:00Z', '2101-01-01T00:60:00Z',
        '2101-01-01T00:00:61Z', '2101-01-01T00:00:99Z',
        '2101-01-01T00:00:00+24:00', '2101-01-01T00:00:00+01:60',
        # no RFC 3339
        '', ' ', 'never', 'null', 'tomorrow', '4102444800', '2101-01-01',
        '2101-01-01T00:00:00', '2101-01-01T00:00Z', '2101-01-01T00Z',
        '2101-1-1T00:00:00Z', '21010101T000000Z', '2101-W01-1T00:00:00Z',
        '2101-001T00:00:00Z', '01-01-2101T00:00:00Z',
        '2101/01/01T00:00:00Z', '2101-01-01T00:00:00.Z',
        '2101-01-01T00:00:00,5Z', '2101-01-01T00:00:00+0100',
        '2101-01-01T00:00:00+01', '2101-01-01T00:00:00 Z',
        '2101-01-01T00:00:00UTC', '2101-01-01T00:00:00Zx',
        '2101-01-01T00:00:00Z ', ' 2101-01-01T00:00:00Z',
        '2101-01-01T00:00:00ZZ', '-2101-01-01T00:00:00Z',
        '2101-01-01T-1:00:00Z', "2101-01-01T00:00:00Z\n",
        "\x{ff12}101-01-01T00:00:00Z", '2101-01-01T00:00:00.' . '0' x 5000,
        'Thu, 01 Jan 2101 00:00:00 GMT',
    ));

    my $one = 'keys/' . id_of('one');

    # A key is not created to be refused; one that there is ends this way.
    bad_values('POST keys', 'expires_at', '"workspace":"acme","name":"a"',
               @bad, quoted(@past));
    bad_values("PATCH $one", 'expires_at', '', @bad);

    seed_key('one');

    for my $text (@past) {
        is(api("PATCH $one", { expires_at => undef })->{json}{status},
           'active', 'a key that does not expire');

        my $res = api("PATCH $one", { expires_at => $text });

        is("$res->{code} $res->{json}{status}", '200 expired',
           "expires_at $text ends it") or diag($res->{raw});
        is(ref $res->{json}{receipt}, 'HASH', "expires_at $text: a receipt");
    }

    my %good = (
        '2101-01-01T00:00:00Z'            => '2101-01-01T00:00:00.000Z',
        '2101-01-01t00:00:00z'            => '2101-01-01T00:00:00.000Z',
        '2101-01-01T00:00:00.5Z'          => '2101-01-01T00:00:00.500Z',
        '2101-01-01T00:00:00.123456789Z'  => '2101-01-01T00:00:00.123Z',
        '2101-01-01T00:00:00+02:00'       => '2100-12-31T22:00:00.000Z',
        '2101-01-01T00:00:00-11:30'       => '2101-01-01T11:30:00.000Z',
        '2101-01-01T00:00:00-00:00'       => '2101-01-01T00:00:00.000Z',
        '2101-01-01T00:00:00+23:59'       => '2100-12-31T00:01:00.000Z',
        '2104-02-29T12:34:56.789Z'        => '2104-02-29T12:34:56.789Z',
        '2400-02-29T00:00:00Z'            => '2400-02-29T00:00:00.000Z',
        '2101-12-31T23:59:59.999Z'        => '2101-12-31T23:59:59.999Z',
        '9999-12-31T23:59:59.999Z'        => '9999-12-31T23:59:59.999Z',
        '9999-12-31T23:59:59.999+00:01'   => '9999-12-31T23:58:59.999Z',
    );

    for my $text (sort keys %good) {
        my $res = api('POST keys', { workspace => 'acme', name => 'Good',
                                     expires_at => $text });
        is($res->{json}{expires_at}, $good{$text}, "expires_at $text")
            or diag($res->{raw});
    }
}


sub overlaps {
    fresh();

    my $call = 'POST keys/' . id_of('one') . '/rotate';

    bad_values($call, 'overlap_seconds', '',
               grep_types(qr/^[01]$/), quoted('60', '', 'P1D'), 7776001,
               -86400, 2147483648, 9007199254740993, 4294967296);
    bad_bodies($call, map { ["overlap_seconds $_",
                             qq({"overlap_seconds":$_}),
                             'invalid_(?:json|member)'] }
                      99999999999999999999, '1e400', '-1e400');
}


sub states {
    fresh();
    bad_values('PUT workspaces/acme', 'status', '', @types,
               quoted('', 'Active', 'DISABLED', 'on', 'off', 'enabled',
                      'revoked', 'active ', 'activex', 'disable'));
}


# --- sizes

sub sizes {
    fresh();

    my $pad = sub { $good . ' ' x ($_[0] - length $good) };

    for my $prefix (qw(/agntkey/ /small/ /file/)) {
        my $before = records();

        problem_is(api('POST keys', $pad->($_), prefix => $prefix),
                   '413 body_too_large', qr/16384/, "$prefix, $_ bytes")
            for 16385, 20000, 100000, 1048576;

        problem_is(api($_, ' ' x 1048576, prefix => $prefix),
                   '413 body_too_large', qr/16384/, "$prefix, $_, 1 MB")
            for 'PATCH keys/' . id_of('one'), 'PUT workspaces/acme',
                'POST keys/' . id_of('one') . '/rotate',
                'POST keys/' . id_of('one') . '/revoke';

        is(records(), $before, "$prefix - nothing has changed");

        for my $bytes (1023, 1024, 1025, 8192, 16384) {
            my $res = api('POST keys', $pad->($bytes), prefix => $prefix);

            is($res->{code}, 201, "$prefix, $bytes bytes are a body")
                or diag($res->{raw});
        }
    }
}


sub chunked_sizes {
    fresh();

    for my $prefix (qw(/agntkey/ /small/ /file/)) {
        for my $bytes (16384, 16385, 1048576) {
            my $body = $good . ' ' x ($bytes - length $good);
            my $text = join '', map { sprintf "%x\r\n%s\r\n", length, $_ }
                                $body =~ /(.{1,4000})/gs;

            my $res = api('POST keys', "${text}0\r\n\r\n",
                          prefix => $prefix,
                          headers => [$json, 'Transfer-Encoding: chunked']);

            if ($bytes > 16384) {
                problem_is($res, '413 body_too_large', qr/16384/,
                           "$prefix, $bytes bytes in chunks");
            } else {
                is($res->{code}, 201, "$prefix, $bytes bytes in chunks")
                    or diag($res->{raw});
            }
        }
    }
}


# Where a body is needed, Content-Length: 0 has none.

sub empty_bodies {
    fresh();

    for my $headers ([$json], []) {
        problem_is(api($_, '', headers => $headers), '400 invalid_json',
                   undef, "$_: a body of 0 bytes")
            for 'POST keys', 'PATCH keys/' . id_of('one'),
                'PUT workspaces/acme';
    }

    problem_is(api('POST keys', "0\r\n\r\n", headers => [$json,
                   'Transfer-Encoding: chunked']),
               '400 invalid_json', undef, 'a chunked body of 0 bytes');
}


# A refusal must not take the body for the next request of the connection.

sub leftovers {
    fresh();

    my $inner = "GET /agntkey/openapi.json HTTP/1.1\r\nHost: a\r\n"
                . bearer($token) . "\r\n\r\n";

    my $refused = sub {
        my ($line, $want, @headers) = @_;
        my $conn = http_start('', raw => join "\r\n",
            "$line HTTP/1.1", 'Host: a', @headers,
            'Content-Length: ' . length $inner, '', $inner);
        my $first = answer($conn);
        my $title = "$want, $line";

        problem_is($first, $want, undef, $title);

        my $next = $conn->response(0.2);

        is($next->{raw}, '', "$title - its body is not a request");
        return if lc($first->{headers}{connection} // '') eq 'close';

        $conn->write("GET /agntkey/none HTTP/1.1\r\nHost: a\r\n"
                     . bearer($token) . "\r\n\r\n");
        is($conn->response->{code}, 404, "$title - and then the next one");
    };

    my $auth = bearer($token);

    $refused->('POST /agntkey/keys', '401 token_missing', $json);
    $refused->('POST /agntkey/keys', '415 unsupported_media_type', $auth);
    $refused->('POST /agntkey/none', '404 not_found', $auth, $json);
    $refused->('PUT /agntkey/keys', '405 method_not_allowed', $auth, $json);
    $refused->('POST /agntkey/keys', '400 invalid_json', $auth, $json);
    $refused->('GET /agntkey/none', '404 not_found', $auth);
    $refused->('GET /agntkey/keys?limit=0&workspace=a', '400 invalid_query',
               $auth);
}


# --- headers

sub media_types {
    fresh();

    my @calls = (['POST keys', $good],
                 ['PATCH keys/' . id_of('one'), '{"name":"a"}'],
                 ['PUT workspaces/acme', '{"status":"active"}'],
                 ['POST keys/' . id_of('one') . '/rotate', '{}'],
                 ['POST keys/' . id_of('one') . '/revoke', '{}']);

    unasked('media types', sub {
        for my $call (@calls) {
            for my $type (undef, '', 'text/plain', 'text/json', '*/*',
                          'application/*', 'json', 'application/jsonx',
                          'application/json5', 'application/json-patch+json',
                          'application/problem+json', 'application/xml',
                          'application/x-www-form-urlencoded',
                          'multipart/form-data; boundary=a',
                          'text/plain; application/json',
                          'application/merge-patch+json')
            {
                problem_is(
                    api(@$call, headers => [defined $type
                                            ? "Content-Type: $type" : ()]),
                    '415 unsupported_media_type', qr/application\/json/,
                    "$call->[0]: type " . ($type // '(none)'));
            }

            problem_is(
                api(@$call, headers => [$json, "Content-Encoding: $_"]),
                '415 unsupported_media_type', qr/Content-Encoding/,
                "$call->[0]: encoding $_")
                for qw(gzip deflate br zstd identity x);
        }
    });

    for my $type ('application/json', 'Application/JSON',
                  'application/json;charset=utf-8',
                  'application/json; charset=UTF-8')
    {
        my $res = api('POST keys', $good,
                      headers => ["Content-Type: $type"]);
        is($res->{code}, 201, "type $type") or diag($res->{raw});
    }
}


sub methods {
    fresh();

    my $id = id_of('one');
    my %allow = (
        'keys'             => 'GET HEAD POST',
        "keys/$id"         => 'GET HEAD PATCH',
        "keys/$id/revoke"  => 'POST',
        "keys/$id/rotate"  => 'POST',
        'workspaces'       => 'GET HEAD',
        'workspaces/acme'  => 'GET HEAD PUT',
        'openapi.json'     => 'GET HEAD',
    );

    unasked('methods', sub {
        for my $path (sort keys %allow) {
            for my $method (qw(GET HEAD POST PUT PATCH DELETE OPTIONS COPY
                               PROPFIND LOCK MKCOL PURGE get))
            {
                next if " $allow{$path} " =~ / $method /;

                my $res = api("$method $path", $method =~ /^P/ ? '{}' : ());
                my $title = "$method $path";

                # nginx itself has no small letters in a method.
                if ($method eq 'get') {
                    is($res->{code}, 400, $title);
                    next;
                }

                is($res->{code}, 405, $title) or diag($res->{raw});
                problem_is($res, '405 method_not_allowed', undef, $title)
                    if $method ne 'HEAD';
                is(join(' ', sort split /, */,
                        $res->{headers}{allow} // ''),
                   $allow{$path}, "$title - Allow");
            }
        }
    });
}


sub paths {
    fresh();

    my $id = id_of('one');

    unasked('paths', sub {
        for my $path ('', 'key', 'keysx', 'Keys', 'KEYS', 'keys/',
                      'keys.json', 'keys//', "keys/$id/", "keys/$id/x",
                      "keys/$id/revoke/", "keys/$id/revoke/x",
                      "keys/$id/Revoke", "keys/$id/revoked", "keys/$id/key",
                      'workspaces/', 'workspace', 'workspaces/a/b',
                      'openapi', 'openapi.json/', 'openapi.yaml', 'v1/keys',
                      'audit', 'index.html', '%20keys', 'keys%20',
                      'agntkey/keys', 'keys;a', 'x' x 4000)
        {
            problem_is(api("$_ $path", $_ eq 'POST' ? '{}' : ()),
                       '404 not_found', undef,
                       substr "$_ /agntkey/$path", 0, 60)
                for qw(GET POST DELETE);
        }

        # A prefix that goes on is another one.
        problem_is(api($_, undef, prefix => '/bare'), '404 not_found', undef,
                   $_ =~ s{ }{ /bare}r)
            for 'GET keys?workspace=acme', 'GET .keys?workspace=acme',
                'GET ', 'GET /', 'GET openapi.json', "GET keys/$id",
                'GET workspaces', 'GET -/workspaces', "GET s/keys/$id";

        for my $bad ('-a', '.a', 'a%20b', 'a' x 65, '%c3%a4', 'a:b') {
            problem_is(api('GET workspaces/' . $bad), '404 not_found', undef,
                       "a workspace $bad");
            problem_is(api("PUT workspaces/$bad", '{"status":"active"}'),
                       '404 not_found', undef, "PUT of a workspace $bad");
        }

        # Ids that none can have.
        for my $bad ('a', substr($id, 1), "${id}0", substr($id, 1) . '-',
                     substr($id, 1) . '_', substr($id, 1) . '.',
                     substr($id, 1) . '%20', substr($id, 1) . '%0a',
                     substr($id, 2) . '%c3%a4', substr($id, 1) . '{',
                     substr($id, 1) . '*', '*', '-', "agnt_$id",
                     'a' x 1000, '%25' x 12)
        {
            my $title = substr $bad, 0, 40;

            problem_is(api("GET keys/$bad"), '404 not_found', undef,
                       "an id $title");
            problem_is(api("PATCH keys/$bad", '{"name":"a"}'),
                       '404 not_found', undef, "PATCH of an id $title");
            problem_is(api("POST keys/$bad/$_"), '404 not_found', undef,
                       "$_ of an id $title") for qw(revoke rotate);
        }
    });

    is(api("GET keys/" . substr($id, 1) . '%00')->{code}, 400,
       'a NUL in an id');

    # A key as an id would be in the access log; it is not found, at least.
    for my $nobody ($id, '000000000000', 'zzzzzzzzzzzz') {
        problem_is(api("GET keys/$nobody"), '404 not_found', undef,
                   'the id of no key');
        problem_is(api("PATCH keys/$nobody", '{"name":"a"}'),
                   '404 not_found', undef, 'PATCH of no key');
        problem_is(api("POST keys/$nobody/$_"), '404 not_found', undef,
                   "$_ of no key") for qw(revoke rotate);
    }

    is(records(), '', 'nothing has come into being');

    is(api("GET $_", undef, prefix => '/bare')->{code}, 200, "GET /bare$_")
        for '/openapi.json', '/workspaces', '/keys?workspace=acme';
}


# --- queries

sub queries {
    fresh();

    my $list = sub {
        my ($query, $code, $name) = @_;
        problem_is(api("GET keys?$query"), "400 $code", qr/"$name"/,
                   substr "GET keys?$query", 0, 70);
    };

    unasked('queries', sub {
        problem_is(api('GET keys'), '400 invalid_query', qr/"workspace"/,
                   'no workspace');

        $list->($_, 'invalid_query', 'workspace')
            for '', 'workspace', 'workspace=', 'workspace=-a',
                'workspace=a%20b', 'workspace=a+b', 'workspace=a/b',
                'workspace=%c3%a4', 'workspace=' . 'a' x 65,
                'workspace=a%00', 'limit=5', 'workspace=a&workspace=a',
                'workspace=a&workspace=b', 'workspace=%', 'workspace=a%4',
                'workspace=%zz', 'workspace=%%', 'workspace=a%',
                'workspace=a=b';

        $list->("workspace=a&$_", 'invalid_query', 'status')
            for 'status', 'status=', 'status=Active', 'status=activ',
                'status=actives', 'status=all', 'status=disabled',
                'status=active,revoked', 'status=active%20', 'status=1',
                'status=active&status=active', 'status=%g1';

        $list->("workspace=a&$_", 'invalid_query', 'limit')
            for map({ "limit=$_" } '', 0, -1, '1e9', 'abc', 101, 1000,
                    1000000000, '1.5', '+5', '%205', '5%20', '0x10', '5a',
                    '99999999999999999999', '18446744073709551617',
                    '4294967297', '-0', '00', '%00', '5%00'),
                'limit', 'limit=5&limit=5', 'limit=5&limit=', 'limit=%5';
    });

    unasked('queries of workspaces', sub {
        problem_is(api("GET workspaces?$_"), '400 invalid_query',
                   qr/"limit"/, "GET workspaces?$_")
            for 'limit=0', 'limit=-1', 'limit=1e9', 'limit=abc', 'limit=101',
                'limit=', 'limit=1&limit=1', 'limit=%';
    });

    my $res = api('GET keys?%77');
    problem_is($res, '400 invalid_query', undef, 'a name that is encoded');

    # An odd way to write it, but a right one.
    for my $query ('workspace=%61cme', 'workspace=acme&', '&workspace=acme',
                   'workspace=acme&&limit=1', 'limit=%31%30&workspace=acme',
                   'limit=0100&workspace=acme', 'limit=1&workspace=acme')
    {
        is(api("GET keys?$query")->{code}, 200, "GET keys?$query");
    }
}


sub unknown_parameters {
    fresh();

    unasked('unknown parameters', sub {
        problem_is(api("GET $_"), '400 invalid_query', undef, "GET $_")
            for map({ "keys?workspace=a&$_" }
                    'x=1', 'Limit=1', 'limits=1', 'limi=1', 'page=2', 'x',
                    '=', '=1', 'offset=0', 'workspaces=a', 'token=a',
                    'li%6dit=5'),
                map { "workspaces?$_" }
                    'x=1', 'workspace=a', 'status=active', 'x';
    });
}


sub unknown_parameter_named {
    fresh();
    problem_is(api("GET $_?offset=5&limit=5&workspace=a"),
               '400 invalid_query', qr/"offset"/, "GET $_ names it")
        for qw(keys);
    problem_is(api('GET workspaces?offset=5'), '400 invalid_query',
               qr/"offset"/, 'GET workspaces names it');
}


# Calls without any parameters take none.

sub parameters_of_others {
    seed_key('one');

    my $id = id_of('one');

    unasked('parameters of calls that have none', sub {
        problem_is(api("$_->[0]?x=1", $_->[1]), '400 invalid_query', undef,
                   "$_->[0]?x=1")
            for ["GET keys/$id"], ['GET workspaces/acme'],
                ['GET openapi.json'], ['POST keys', $good],
                ["PATCH keys/$id", '{"name":"a"}'],
                ["POST keys/$id/rotate"], ["POST keys/$id/revoke"],
                ['PUT workspaces/acme', '{"status":"disabled"}'];
    });
}


sub cursors {
    fresh();

    my $id = id_of('one');

    unasked('cursors', sub {
        problem_is(api("GET keys?workspace=acme&cursor=$_"),
                   '400 invalid_cursor', qr/"cursor"/,
                   substr "cursor $_", 0, 60)
            for '', 'x', '.', $id, "$id.", "$id.x", "$id.-1", "$id.1.5",
                "$id.1e9", "$id.+1", "$id.%20", substr($id, 1) . '.1',
                "${id}0.1", "$id:1", substr($id, 1) . '-.1',
                "$id.12345678901234567", "$id." . '9' x 40, 'x' x 4000,
                '(inf', '-', '+', '0', 'null';

        problem_is(api("GET workspaces?cursor=$_"), '400 invalid_cursor',
                   qr/"cursor"/, substr "workspaces, cursor $_", 0, 60)
            for '', '-a', '.', 'a%20b', '%28a', '[a', '+', '-',
                'a' x 65, '%c3%a4';
    });

    problem_is(api("GET keys?workspace=acme&$_"), '400 invalid_query',
               qr/"cursor"/, $_)
        for "cursor=$id.1&cursor=$id.1", 'cursor=%', 'cursor=%x',
            "cursor=$id%001", 'cursor=' . '%00' x 13;

    # The cursor of another workspace shows none of its keys.
    seed_key("a$_", workspace => 'acme') for 1 .. 3;
    seed_key("b$_", workspace => 'other') for 1 .. 3;

    my $cursor = api('GET keys?workspace=other&limit=1')->{json}
                 {next_cursor};
    my $res = api("GET keys?workspace=acme&cursor=$cursor");

    if ($res->{code} eq '200') {
        is(scalar(grep { $_->{workspace} ne 'acme' }
                       @{ $res->{json}{data} }), 0,
           'the cursor of another workspace');

    } else {
        problem_is($res, '400 invalid_cursor', qr/"cursor"/,
                   'the cursor of another workspace');
    }
}


# --- Idempotency-Key

sub once {
    my ($value, %members) = @_;
    return api('POST keys', { workspace => 'acme', name => 'Once', %members },
               headers => [$json, "Idempotency-Key: $value"]);
}


sub idempotency {
    fresh();

    my $first = once('a-1');
    my $id = $first->{json}{id};
    my $name = 'agntkey:idempotency:{' . workspace_tag('acme') . '}acme:'
               . sha256_hex('a-1');

    is($first->{code}, 201, 'the first time') or diag($first->{raw});
    is(redis_cmd('GET', $name), $id, 'in Redis, by its digest');
    is(redis_cmd('TTL', $name) > 86390 ? 1 : redis_cmd('TTL', $name), 1,
       'for a day');
    cmp_ok(redis_cmd('TTL', $name), '<=', 86400, 'and no longer');

    my $records = records();

    for my $again (once('a-1'), once('a-1', name => 'Another'),
                   once('a-1', scopes => ['a']), once('a-1  '))
    {
        problem_is($again, '409 idempotency_conflict', undef, 'a repeat');
        is($again->{json}{id}, $id, 'a repeat - names the first one');
        unlike($again->{raw}, qr/\Q@{[key_secret($first->{json}{key})]}/,
               'a repeat - does not show the secret');
    }

    is(records(), $records, 'a repeat changes nothing');

    for my $other (once('a-2'), once('A-1'), once('a-1', workspace => 'b'),
                   once('x' x 255),
                   once(join '', map { chr } 0x21 .. 0x7e))
    {
        is($other->{code}, 201, 'another one') or diag($other->{raw});
        isnt($other->{json}{id}, $id, 'another one - another key');
    }

    # It stays taken, whatever becomes of the key.
    api("POST keys/$id/revoke");
    problem_is(once('a-1'), '409 idempotency_conflict', undef,
               'a repeat after the key was revoked');

    # An attempt that was refused takes none.
    problem_is(once('late', name => ''), '400 invalid_member', qr/"name"/,
               'a refused attempt');
    is(once('late')->{code}, 201, 'may be corrected');

    # A rotation makes a key as well, even if the old one is over by then.
    my $key = once('else')->{json};
    my $turn = sub {
        return api("POST keys/$_[0]/rotate", '{"overlap_seconds":0}',
                   headers => [$json, "Idempotency-Key: $_[1]"]);
    };

    $first = $turn->($key->{id}, 'turn');
    is($first->{code}, 201, 'a rotation') or diag($first->{raw});
    $records = records();

    for my $again ($turn->($key->{id}, 'turn'),
                   $turn->($first->{json}{id}, 'turn'), once('turn'))
    {
        problem_is($again, '409 idempotency_conflict', undef,
                   'a rotation again');
        is($again->{json}{id}, $first->{json}{id},
           'a rotation again - names the new one');
    }

    problem_is($turn->($first->{json}{id}, 'else'),
               '409 idempotency_conflict', undef, 'a value of a create');
    problem_is($turn->($key->{id}, 'other'), '409 key_expired', undef,
               'another value');
    is(records(), $records, 'nothing of it changes anything');
    is($turn->($first->{json}{id}, 'other')->{code}, 201,
       'a value that was refused may be used');

    # Elsewhere it means nothing.
    is(api('PUT workspaces/acme', '{"status":"active"}',
           headers => [$json, 'Idempotency-Key: ' . 'x' x 300])->{code},
       200, 'nor do others');
}


sub bad_idempotency {
    fresh();

    my %bad = ('none' => '', 'spaces' => '   ', 'a space inside' => 'a b',
               'a tab inside' => "a\tb", '256 characters' => 'x' x 256,
               '4000 characters' => 'x' x 4000, 'a byte 0x01' => "a\x01",
               'a byte 0x7f' => "a\x7f", 'UTF-8' => "a\xc3\xa4",
               'a byte 0xff' => "\xff");

    unasked('bad ones', sub {
        for my $name (sort keys %bad) {
            problem_is(once($bad{$name}), '400 invalid_idempotency_key',
                       undef, "Idempotency-Key: $name");
            problem_is(api('POST keys/000000000000/rotate', undef, headers =>
                           ["Idempotency-Key: $bad{$name}"]),
                       '400 invalid_idempotency_key', undef,
                       "rotate, Idempotency-Key: $name");
        }
    });
}


# Whoever comes first, there is one.

sub races {
    fresh();

    my @waiting = map {
        api_start('POST keys', $good,
                  headers => [$json, 'Idempotency-Key: race'])
    } 1 .. 100;
    my @answers = map { answer($_) } @waiting;
    my ($won) = grep { $_->{code} eq '201' } @answers;

    is(scalar(grep { $_->{code} eq '201' } @answers), 1, 'one of 100 wins');
    is(scalar(grep { $_->{code} eq '409'
                     && $_->{json}{id} eq $won->{json}{id} } @answers),
       99, 'the others hear of it');
    is(api('GET workspaces/acme')->{json}{keys}, 1, 'one key was made');
}


# Good bodies, changed at random, the same way in each run.  What is taken for
# good is so to another decoder, too; all else is refused in order.

my $state = 1;

sub roll {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    return ($state >> 8) % $_[0];
}


sub changed {
    my ($text) = @_;
    my @parts = ('"', '\\', '{', '}', '[', ']', ':', ',', 'null', 'true', '-',
                 '1e9', '0', ' ', "\n", '\\u0000', '\\ud800', "\0", "\x01",
                 "\xff", "\xc3", "\xc3\xa4", "\xed\xa0\x80", '"name":"a",',
                 '"id":"a",', '[' x 40, 'x' x 120, chr roll(256));

    for (0 .. roll(3)) {
        my $at = roll(1 + length $text);
        my $how = roll(4);

        substr $text, $at, $how == 0 ? 0 : roll(4),
               $how == 1 ? '' : $parts[roll(scalar @parts)] if $how < 3;
        $text = substr $text, 0, $at if $how == 3 && roll(4) == 0;
    }

    return $text;
}


sub noise {
    fresh();

    my %calls = (
        'PATCH keys/' . id_of('one') => '{"name":"CI/CD \u00e4\ud83d\udd11",'
            . '"scopes":["a:b","c"],"expires_at":"2101-01-31T12:00:00.5Z"}',
        'POST keys/' . id_of('one') . '/rotate'
            => '{"overlap_seconds":60,"name":"Nightly \\"report\\""}',
        'PUT workspaces/nobody' => '{"status":"disabled"}',
    );
    my %allowed = map { $_ => 1 } qw(name scopes expires_at overlap_seconds
                                     status);
    my $records = records();
    my %seen;

    for my $call (sort keys %calls) {
        my @wrong;

        is(api($call, $calls{$call})->{code}, 404, "$call: good as it is");

        for (1 .. 700) {
            my $body = changed($calls{$call});
            my $res = api($call, $body);
            my $is = "$res->{code} " . ($res->{json}{code} // '');
            my $object = eval { $utf8->decode($body) };

            $seen{$is}++;
            next if $is =~ /^400[ ](?:invalid_json
                                    |(?:invalid|unknown|missing)_member)$/x;
            next if $is eq '404 not_found' && ref $object eq 'HASH'
                    && !grep { !$allowed{$_} } keys %$object;
            next if $is eq '404 not_found' && $body eq ''
                    && $call =~ /rotate/;

            push @wrong, "$is: $body" =~ s/[^ -~]/?/gr;
        }

        is(scalar @wrong, 0, "$call: no noise is taken for a body")
            or diag(join "\n", @wrong);
    }

    cmp_ok($seen{$_} // 0, '>', 20, "noise - $_, now and then")
        for '400 invalid_json', '400 invalid_member', '404 not_found';
    is(records(), $records, 'noise - nothing has changed');
}


sub a_thousand {
    fresh();

    my @waiting = map { api_start('POST keys', $good) } 1 .. 1000;
    my @answers = map { answer($_) } @waiting;
    my %ids = map { ($_->{json}{id} // '') => 1 } @answers;

    is(scalar(grep { $_->{code} eq '201' } @answers), 1000,
       'a thousand at once, all of one name')
        or diag((grep { $_->{code} ne '201' } @answers)[0]{raw});
    is(scalar keys %ids, 1000, 'each has an id of its own');
    is(api('GET workspaces/acme')->{json}{keys}, 1000, 'all are there');
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== a body that is no JSON object
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::no_json();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== a body that is no UTF-8, or stands for no text
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::not_utf8();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== members that a call does not know, or that are missing
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::members();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== members of long names
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::long_members();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== members of long names, in bytes of more than one
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::long_members_utf8();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== names of keys
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::names();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== names of workspaces
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::workspace_names();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== scopes
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::scopes();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== times
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::times();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== overlaps
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::overlaps();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== states of a workspace
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::states();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== bodies that are too large
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::sizes();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== bodies that are too large, in chunks
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::chunked_sizes();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== bodies of no bytes
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::empty_bodies();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== what a refused request leaves on its connection
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::leftovers();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== types and encodings of a body
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::media_types();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== methods that a path does not have
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::methods();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== paths that are not there, and ids that none can have
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::paths();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== parameters of a query
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::queries();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== parameters that nobody knows
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::unknown_parameters();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== parameters that nobody knows are named
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::unknown_parameter_named();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== parameters of calls that have none
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::parameters_of_others();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== cursors that are not ours
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::cursors();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== an Idempotency-Key counts once
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::idempotency();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== an Idempotency-Key that is none
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::bad_idempotency();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== an Idempotency-Key, a hundred times at once
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::races();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== bodies changed at random
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::noise();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]



=== a thousand creations at once
--- http_config eval: $::http_config
--- config eval: $::config
--- init
::a_thousand();
--- request
GET /agntkey/keys
--- error_code: 401
--- no_error_log
[error]
