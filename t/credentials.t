# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Where a key is looked for, what is taken for one, and that nothing else
# costs a question to Redis.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();
seed_key('one');
seed_key('two');

my $key = key_for('one');
my $other = key_for('two');

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;

    map $http_x_secret $mapped {
        ~^key:(?<rest>.*)$ $rest;
        default '';
    }

    map $http_authorization $own {
        "~*^apikey +(?<rest>.*)$" $rest;
        default '';
    }
_EOC_

our $config = <<'_EOC_';
        root html;
        add_header X-Status $agntkey_status always;
        add_header X-Id $agntkey_id always;
        agntkey on;

        location /bearer { }
        location /header { agntkey_token $http_x_api_key; }
        location /braces { agntkey_token ${HTTP_X_API_KEY}; }
        location /query { agntkey_token $arg_key; }
        location /cookie { agntkey_token $cookie_key; }
        location /mapped { agntkey_token $mapped; }
        location /scheme { agntkey_token $own; }
        location /text { agntkey_token agnt_$arg_rest; }
        location /some { agntkey_token $http_x_api_key$arg_key$cookie_key; }

        location /outer {
            agntkey_token $arg_key;
            location /outer/inner { }
            location /outer/own { agntkey_token $http_x_api_key; }
        }
_EOC_

our $user_files = join '', map { ">>> $_\nhello\n" }
    qw(bearer header braces query cookie mapped scheme text some
       outer/inner outer/own);


# --- one request and all that is to be seen of its refusal

my %status = (
    ok => 200, missing => 401, malformed => 401, unknown => 401,
    ambiguous => 400,
);

my ($log_file, $log_pos) = ('', 0);


sub refusals {
    my $file = server_root() . '/logs/error.log';

    open my $in, '<', $file or die "$file: $!\n";

    my $inode = (stat $in)[1];

    $log_pos = 0 if $log_file ne $inode || -s $in < $log_pos;
    $log_file = $inode;

    seek $in, $log_pos, 0;
    my @reasons = map { /\[info\].* agntkey: key refused: (\w+)/ ? $1 : () }
                  <$in>;
    $log_pos = tell $in;

    return "@reasons";
}


sub try {
    my ($title, $path, $headers, $reason) = @_;
    my $raw = join "\r\n", "GET $path HTTP/1.1", 'Host: localhost',
                           'Connection: close', @$headers, '', '';

    refusals();

    my $res = http_start('', raw => $raw)->response;
    my $got = $res->{headers}{'x-status'} // '';

    is("$res->{code} $got", "$status{$reason} $reason", $title)
        or return diag($res->{raw});

    is(refusals(), $reason eq 'ok' ? '' : $reason, "$title - log");

    if ($reason eq 'ok') {
        is($res->{body}, "hello\n", "$title - body");
        return;
    }

    is($res->{headers}{'cache-control'}, 'no-store', "$title - no-store");
    like($res->{headers}{'www-authenticate'}, qr/^Bearer realm="agntkey"/,
         "$title - challenge");
    is($res->{headers}{'x-id'} // '', '', "$title - no id")
        if $reason ne 'unknown';
}


# The same, for garbage: and Redis does not hear of it.

sub garbage {
    my (@rows) = @_;
    my $before = redis_commands_count();

    try(@$_) for @rows;

    is(redis_commands_count(), $before, 'no command to Redis for '
                                        . @rows . ' bad requests');
}


sub good {
    my (@rows) = @_;
    my $before = redis_commands_count();

    try(@$_, 'ok') for @rows;

    cmp_ok(redis_commands_count() - $before, '>=', scalar @rows,
           'Redis was asked about ' . @rows . ' good ones');
}


# --- Authorization

my $path = '/bearer';

sub header { [$_[0], $path, [map { "Authorization:$_" } $_[1]], $_[2]] }


sub no_key {
    garbage(
        ['no header', $path, [], 'missing'],
        map { header(@$_, 'missing') }
            ['an empty one', ''],
            ['a space', ' '],
            ['only spaces', '      '],
            ['a tab', " \t"],
            ['"Bearer" alone', ' Bearer'],
            ['"Bearer" and a space', ' Bearer '],
            ['"Bearer" and spaces', ' Bearer    '],
            ['"Bearer" and a tab', " Bearer\t"],
            ['"Beare"', ' Beare'],
            ['no space after the scheme', " Bearer$key"],
            ['a key and no scheme', " $key"],
            ['a scheme like ours', " XBearer $key"],
            ['a scheme that begins like ours', " Bearer2 $key"],
            ['a colon after the scheme', " Bearer: $key"],
            ['a comma after the scheme', " Bearer,$key"],
            ['scheme "Basic"', ' Basic dXNlcjpwYXNz'],
            ['scheme "Token"', " Token $key"],
            ['scheme "Digest"', ' Digest username="a"'],
            ['scheme "ApiKey"', " ApiKey $key"],
    );
}


sub bad_key {
    my $other_prefix = key_for('one', prefix => 'test');

    garbage(map { header("a bad key: $_->[0]", " Bearer $_->[1]",
                         'malformed') }
        ['two keys', "$key $other"],
        ['a key twice', "$key $key"],
        ['a list', "$key, $other"],
        ['a list without a space', "$key,$key"],
        ['the scheme twice', "Bearer $key"],
        ['in double quotes', "\"$key\""],
        ['in single quotes', "'$key'"],
        ['in angle brackets', "<$key>"],
        ['as a parameter', "token=\"$key\""],
        ['percent-encoded', join '', map { sprintf '%%%02x', ord }
                                     split //, $key],
        ['a percent-encoded "_"', $key =~ s/_/%5F/r],
        ['one character short', substr $key, 0, -1],
        ['one character short at the front', substr $key, 1],
        ['one character long', "${key}0"],
        ['one character long at the front', "a$key"],
        ['a "=" behind it', "$key="],
        ['a tab in front', "\t$key"],
        ['a tab behind a space', " \t$key"],
        ['a word behind', "$key x"],
        ['another prefix', $other_prefix],
        ['a longer prefix', key_for('one', prefix => 'agntx')],
        ['a shorter prefix', key_for('one', prefix => 'agn')],
        ['the prefix in capitals', key_for('one', prefix => 'AGNT')],
        ['the prefix changed', 'test' . substr $key, 4],
        ['"-" for "_"', $key =~ s/_/-/r],
        ['the prefix alone', 'agnt'],
        ['the prefix and "_"', 'agnt_'],
        ['the id alone', 'agnt_' . key_id($key)],
        ['no check', substr $key, 0, -6],
        ['upper case', uc $key],
        ['lower case', lc $key],
        ['one byte', 'x'],
        ['8,000 bytes', 'x' x 8000],
        ['8,000 bytes that begin well', $key . 'x' x 7945],
        ['8,000 spaces less one, and a byte', ' ' x 7999 . 'x'],
    );
}


# CRC-32 finds any one changed character.

sub changed {
    my @rows;

    for my $i (0 .. length($key) - 1) {
        my $text = $key;

        substr($text, $i, 1) =~ tr/0-8A-Ya-y9Zz_/1-9B-Zb-z0Aa0/;
        push @rows, header("character $i changed", " Bearer $text",
                           'malformed');
    }

    garbage(@rows);
}


# nginx itself answers to a NUL, CR or LF.

sub bytes {
    my @rows;

    for my $byte (1 .. 9, 11, 12, 14 .. 47, 58 .. 64, 91 .. 96, 123 .. 255) {
        my $text = $key;

        substr($text, 20, 1) = chr $byte;
        push @rows, header(sprintf('byte 0x%02x in it', $byte),
                           " Bearer $text", 'malformed');

        # With a check that fits it, too.
        $text = with_check(key_without_check($text));
        push @rows, header(sprintf('byte 0x%02x, and its check', $byte),
                           " Bearer $text", 'malformed');
    }

    garbage(@rows);
    garbage(map { header(sprintf('byte 0x%02x behind it', $_),
                         " Bearer $key" . chr, 'malformed') }
                1, 31, 127, 128, 160, 255);

    for my $text ("$key\0", "\0$key", "$key\rx") {
        my $res = http_start('', raw => "GET $path HTTP/1.1\r\nHost: a\r\n"
                             . "Authorization: Bearer $text\r\n\r\n");
        is($res->response->{code}, 400, 'nginx refuses NUL and a bare CR');
    }
}


sub allowed {
    good(map { [@{ header(@$_) }[0 .. 2]] }
        ['one space', " Bearer $key"],
        ['no space before the scheme', "Bearer $key"],
        ['many spaces before the scheme', "    Bearer $key"],
        ['two spaces', " Bearer  $key"],
        ['many spaces', " Bearer      $key"],
        ['lower case', " bearer $key"],
        ['upper case', " BEARER $key"],
        ['mixed case', " bEaReR $key"],
        ['a space behind', " Bearer $key "],
        ['spaces behind', " Bearer $key    "],
        ['a tab behind', " Bearer $key\t"],
    );
    good(['the name in lower case', $path, ["authorization: Bearer $key"]]);
}


# Before any module is asked.

sub twice {
    my $before = redis_commands_count();

    for my $second ("Bearer $key", "Bearer $other", 'Basic dTpw', '') {
        my $res = http('GET /bearer', headers =>
            "Authorization: Bearer $key\nAuthorization: $second");

        is($res->{code}, 400, 'Authorization twice');
        unlike($res->{raw}, qr/agnt/, 'none of it in the answer');
    }

    is(redis_commands_count(), $before, 'Authorization twice - no command');
    is(refusals(), '', 'Authorization twice - not our refusal');
}


# nginx drops a header with "_" in its name, and writes it down at "info": that
# is what the documents warn of.

sub underscores {
    for my $name (qw(X_API_Key x_api-key X-API_KEY)) {
        answer_is(http('GET /header', headers => "$name: $key"),
                  '401 missing', "$name: dropped");
        is(scalar log_lines(qr/\[info\].*invalid header line: "$name: \Q$key/),
           1, "$name: written down by nginx");
    }

    refusals();
}


# --- other places

sub from_header {
    my ($at) = @_;

    good([$at, $at, ["X-API-Key: $key"]],
         ["$at in lower case", $at, ["x-api-key:$key"]],
         ["$at and credentials of others", $at,
          ["X-API-Key: $key", 'Authorization: Bearer eyJhbGciOiJIUzI1NiJ9']],
         ["$at and a shorter one of others", $at,
          ["X-API-Key: $key", 'Authorization: Bearer a']],
         ["$at and Basic", $at,
          ["X-API-Key: $key", 'Authorization: Basic dTpw']],
         ["$at and a key of another prefix", $at,
          ["X-API-Key: $key",
           bearer(key_for('one', prefix => 'test'))]]);

    garbage(["$at: none", $at, [], 'missing'],
            ["$at: empty", $at, ['X-API-Key:'], 'missing'],
            ["$at: only spaces", $at, ['X-API-Key:    '], 'missing'],
            ["$at: only Authorization", $at, [bearer($key)], 'missing'],
            ["$at: another name", $at, ["X-API-Keys: $key"], 'missing'],
            ["$at: with a scheme", $at, ["X-API-Key: Bearer $key"],
             'malformed'],
            ["$at: two in one", $at, ["X-API-Key: $key, $key"],
             'malformed'],
            ["$at: quoted", $at, ["X-API-Key: \"$key\""], 'malformed'],
            ["$at: one character short", $at,
             ['X-API-Key: ' . substr $key, 1], 'malformed'],
            ["$at: 8,000 bytes", $at, ['X-API-Key: ' . 'x' x 8000],
             'malformed'],
            ["$at: twice", $at, ["X-API-Key: $key", "X-API-Key: $other"],
             'ambiguous'],
            ["$at: the same twice", $at,
             ["X-API-Key: $key", "x-api-key: $key"], 'ambiguous'],
            ["$at: a good one, then garbage", $at,
             ["X-API-Key: $key", 'X-API-Key: x'], 'ambiguous'],
            ["$at: garbage, then a good one", $at,
             ['X-API-Key: x', "X-API-Key: $key"], 'ambiguous'],
            ["$at: a good one, then an empty one", $at,
             ["X-API-Key: $key", 'X-API-Key:'], 'ambiguous'],
            ["$at: and in Authorization", $at,
             ["X-API-Key: $key", bearer($key)], 'ambiguous'],
            ["$at: another in Authorization", $at,
             [bearer($other), "X-API-Key: $key"], 'ambiguous'],
            ["$at: a bad one in Authorization", $at,
             ["X-API-Key: $key", bearer('agnt_x')], 'ambiguous']);
}


sub from_query {
    my $at = '/query';

    good(map { ["$at: $_->[0]", $at . $_->[1], []] }
         ['alone', "?key=$key"],
         ['the last', "?a=b&key=$key"],
         ['the first', "?key=$key&a=b"],
         ['beside others like it', "?akey=$other&key=$key&key2=$other"],
         ['in upper case', "?KEY=$key"],
         ['after empty ones', "?&&key=$key&&"]);

    garbage(map { ["$at: $_->[0]", $at . $_->[1], $_->[3] // [], $_->[2]] }
            ['no query', '', 'missing'],
            ['an empty query', '?', 'missing'],
            ['an empty value', '?key=', 'missing'],
            ['no "="', '?key', 'missing'],
            ['another name', "?akey=$key", 'missing'],
            ['a longer name', "?key2=$key", 'missing'],
            ['in Authorization only', '', 'missing', [bearer($key)]],
            ['percent-encoded', '?key=%61' . substr($key, 1), 'malformed'],
            ['a space behind', "?key=$key%20", 'malformed'],
            ['a plus behind', "?key=$key+", 'malformed'],
            ['a list', "?key=$key,$other", 'malformed'],
            ['";" is no separator', "?key=$key;key=$other", 'malformed'],
            ['twice', "?key=$key&key=$other", 'ambiguous'],
            ['the same twice', "?key=$key&key=$key", 'ambiguous'],
            ['twice, apart', "?key=$key&a=b&key=$key", 'ambiguous'],
            ['twice, in another case', "?key=$key&Key=$key", 'ambiguous'],
            ['a good one, then garbage', "?key=$key&key=x", 'ambiguous'],
            ['a good one, then an empty one', "?key=$key&key=",
             'ambiguous'],
            ['and in Authorization', "?key=$key", 'ambiguous',
             [bearer($key)]]);
}


sub from_cookie {
    my $at = '/cookie';

    good(map { ["$at: $_->[0]", $at, [map { "Cookie: $_" }
                                      @$_[1 .. $#$_]]] }
         ['alone', "key=$key"],
         ['the last', "a=b; key=$key"],
         ['the first', "key=$key; a=b"],
         ['without a space', "a=b;key=$key;c=d"],
         ['beside others like it', "akey=$other; key=$key; key2=$other"],
         ['in a second header', 'a=b', "key=$key"]);

    garbage(map { ["$at: $_->[0]", $at, [map { "Cookie: $_" }
                                         @$_[2 .. $#$_]], $_->[1]] }
            ['no cookie', 'missing'],
            ['an empty header', 'missing', ''],
            ['an empty value', 'missing', 'key='],
            ['no "="', 'missing', 'key'],
            ['another name', 'missing', "akey=$key"],
            ['quoted', 'malformed', "key=\"$key\""],
            ['percent-encoded', 'malformed', 'key=%61' . substr $key, 1],
            ['twice', 'ambiguous', "key=$key; key=$other"],
            ['the same twice', 'ambiguous', "key=$key; key=$key"],
            ['twice without a space', 'ambiguous', "key=$key;key=$key"],
            ['twice in two headers', 'ambiguous', "key=$key", "key=$key"],
            ['twice, apart', 'ambiguous', "key=$key; a=b; key=$other"],
            ['in another case', 'ambiguous', "key=$key; KEY=$key"]);

    garbage(["$at: and in Authorization", $at,
             ["Cookie: key=$key", bearer($key)], 'ambiguous']);
}


# The variable of nginx takes these for separators and names too: the key
# that it shows may be any of the two.

sub odd_cookies {
    my $at = '/cookie';

    garbage(map { ["$at: $_->[0]", $at, ["Cookie: $_->[1]"], 'ambiguous'] }
            ['twice, after a comma', "a=b,key=$key; key=$other"],
            ['twice, with a space', "key =$key; key=$other"],
            ['twice, with a space later', "key=$key; key =$other"]);
}


sub from_map {
    my $at = '/mapped';

    good([$at, $at, ["X-Secret: key:$key"]],
         ["$at and credentials of others", $at,
          ["X-Secret: key:$key", 'Authorization: Basic dTpw']],
         ['/scheme', '/scheme', ["Authorization: ApiKey $key"]]);

    garbage(["$at: none", $at, [], 'missing'],
            ["$at: another form", $at, ["X-Secret: $key"], 'missing'],
            ["$at: nothing in it", $at, ['X-Secret: key:'], 'missing'],
            ["$at: garbage", $at, ['X-Secret: key:x'], 'malformed'],
            ["$at: in Authorization only", $at, [bearer($key)], 'missing'],
            ['/scheme: Bearer', '/scheme', [bearer($key)], 'missing'],
            ['/scheme: garbage', '/scheme', ['Authorization: ApiKey x'],
             'malformed']);
}


sub with_text {
    my $rest = substr $key, 5;

    good(['/text', "/text?rest=$rest", []]);

    garbage(['/text: nothing', '/text', [], 'malformed'],
            ['/text: the whole key', "/text?rest=$key", [], 'malformed'],
            ['/text: garbage', '/text?rest=x', [], 'malformed']);
}


sub from_some {
    my $at = '/some';

    good(["$at: header", $at, ["X-API-Key: $key"]],
         ["$at: query", "$at?key=$key", []],
         ["$at: cookie", $at, ["Cookie: key=$key"]],
         ["$at: query, and others empty", "$at?key=$key",
          ['X-API-Key:', 'Cookie: key=']]);

    garbage(["$at: none", $at, [], 'missing'],
            ["$at: all empty", "$at?key=", ['X-API-Key:', 'Cookie: key='],
             'missing'],
            ["$at: Authorization only", $at, [bearer($key)], 'missing'],
            ["$at: garbage", "$at?key=x", [], 'malformed'],
            ["$at: header and query", "$at?key=$key", ["X-API-Key: $key"],
             'ambiguous'],
            ["$at: header and garbage", "$at?key=x", ["X-API-Key: $key"],
             'ambiguous'],
            ["$at: query and cookie", "$at?key=$key",
             ["Cookie: key=$other"], 'ambiguous'],
            ["$at: cookie and Authorization", $at,
             ["Cookie: key=$key", bearer($key)], 'ambiguous'],
            ["$at: halves of a key", "$at?key=" . substr($key, 20),
             ['X-API-Key: ' . substr $key, 0, 20], 'ambiguous']);
}


sub nested {
    good(['inner, inherited', "/outer/inner?key=$key", []],
         ['inner, its own', '/outer/own', ["X-API-Key: $key"]]);

    garbage(['inner, inherited: Authorization', '/outer/inner',
             [bearer($key)], 'missing'],
            ['inner, its own: query', "/outer/own?key=$key", [],
             'missing']);
}


# Of the lines of nginx itself, some show the request line or the header of
# a client: with an error of its own, and in the access log.

watch_logs(strip => qr/(?x)
    "(?:GET|HEAD)\ [^"]*" |
    client\ sent\ duplicate\ header\ line:.* |
    client\ sent\ invalid\ header\ line:.*
/);
run_tests();
logs_clean();

__DATA__

=== no credentials, or those of another scheme, are none
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::no_key();
--- request
GET /bearer
--- error_code: 401
--- response_headers
X-Status: missing
--- error_log
agntkey: key refused: missing



=== a bad key is malformed and costs no question
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::bad_key();
--- request
GET /bearer
--- more_headers
Authorization: Bearer agnt_x
--- error_code: 401
--- response_headers
X-Status: malformed
--- error_log
agntkey: key refused: malformed



=== any changed character makes a key malformed
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::changed();
--- request
GET /bearer
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== any byte that is no letter or digit makes a key malformed
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::bytes();
--- request
GET /bearer
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== the scheme has no case, and spaces may surround the key
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::allowed();
--- request
GET /bearer
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- no_error_log
agntkey: key refused



=== Authorization given twice is refused by nginx itself
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::twice();
--- request
GET /bearer
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- no_error_log
agntkey: key refused



=== a header with "_" in its name is none, and nginx writes it down
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::underscores();
--- request
GET /header
--- error_code: 401
--- error_log
client sent invalid header line



=== agntkey_token $http_x_api_key takes a bare key from that header
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::from_header('/header');
--- request
GET /header
--- error_code: 401
--- response_body_like: Send your key in the header x-api-key\.
--- error_log
agntkey: key refused: missing



=== agntkey_token ${HTTP_X_API_KEY} does the same
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::from_header('/braces');
--- request
GET /braces
--- error_code: 401
--- response_body_like: Send your key in the header x-api-key\.
--- error_log
agntkey: key refused: missing



=== a custom header whose first field is empty is refused
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /header
--- more_headers eval
"X-API-Key:\nX-API-Key: " . key_for('one')
--- error_code_like: ^40[01]$
--- response_headers_like
X-Status: missing|ambiguous
--- error_log eval
qr/agntkey: key refused: (?:missing|ambiguous)/



=== agntkey_token $arg_key takes the key from the query
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::from_query();
--- request
GET /query
--- error_code: 401
--- response_body_like: Send your key in the query, as key=<key>\.
--- error_log
agntkey: key refused: missing



=== agntkey_token $cookie_key takes the key from a cookie
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::from_cookie();
--- request
GET /cookie
--- error_code: 401
--- response_body_like: Send your key in the cookie key\.
--- error_log
agntkey: key refused: missing



=== a key in two cookies is ambiguous however they are written
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::odd_cookies();
--- request
GET /cookie
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== agntkey_token of a map variable takes what the map makes of it
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::from_map();
--- request
GET /mapped
--- error_code: 401
--- response_body_like: Send your key where this API expects it\.
--- error_log
agntkey: key refused: missing



=== agntkey_token with text among its variables
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::with_text();
--- request
GET /text
--- error_code: 401
--- error_log
agntkey: key refused: malformed



=== agntkey_token with several variables takes a key from one of them
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::from_some();
--- request
GET /some
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== agntkey_token is inherited, and replaced in an inner location
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::nested();
--- request
GET /outer/inner
--- error_code: 401
--- error_log
agntkey: key refused: missing
