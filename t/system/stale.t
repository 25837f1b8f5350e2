# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_stale and what a worker has read by itself: a reply that says that a
# key or a workspace is not what is remembered counts, although the other
# reply of the look-up was lost, and although nobody can tell of changes.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Key;
use Agntkey::Nginx;
use Agntkey::Workers;
use Test::More;

# Each case has a workspace of its own with the keys "one", which is asked for,
# and "two", which is not; and "left", in another workspace of the same tag,
# as if the name of that one had it.

sub left { return (id => workspace_tag($_[0]) . 'left0000',
                   workspace => "$_[0]-too") }

sub left_home { return 'agntkey:workspace:{' . workspace_tag($_[0])
                       . "}$_[0]-too" }

my %fields = (name => 'first', scopes => 'a b', expires_at => 4000000000000);

sub keys_of {
    my ($ws) = @_;
    return (['one', workspace => $ws, %fields], ['two', workspace => $ws],
            ['left', left($ws), no_workspace => 1]);
}

# The record of "one", changed.

sub one {
    my ($ws, %change) = @_;
    my $key = key_for('one', workspace => $ws);
    my ($records) = key_records($key, workspace => $ws, %fields);
    my $name = record_of('one', workspace => $ws);
    my %record = (%{ $records->{$name} }, %change);

    delete @record{ grep { !defined $record{$_} } keys %record };
    return ($name => \%record);
}

sub asks_one { return qr/^HMGET \Q@{[record_of('one', workspace => $_[0])]}\E/ }
sub asks_home { return qr/^HGET \Q@{[workspace_of($_[0])]}\E / }
sub asks_left { return qr/^HGET \Q@{[left_home($_[0])]}\E / }


# title => [records, rules, what is stale afterwards, what was answered]; the
# first two are functions of the workspace

my $away = '503 store_unavailable';
my %cases;

sub no_home {
    my ($ws) = @_;
    return { match => asks_home($ws), do => { close => 0 } };
}

# The record of the key is another one, and no reply comes for the workspace.

my %against = (
    'revoked'            => sub { one($_[0], active => undef) },
    'not 1'              => sub { one($_[0], active => 'yes') },
    'a revoked_at'       => sub { one($_[0], revoked_at => 1700000000001) },
    'another end'        => sub { one($_[0], expires_at => 4000000000001) },
    'no end'             => sub { one($_[0], expires_at => undef) },
    'another beginning'  => sub { one($_[0], created_at => 1700000000001) },
    'another digest'     => sub { one($_[0], digest => '0' x 64) },
    'another name'       => sub { one($_[0], name => 'fIrst') },
    'a longer name'      => sub { one($_[0], name => 'first.') },
    'other scopes'       => sub { one($_[0], scopes => 'a c') },
    'no scopes'          => sub { one($_[0], scopes => '') },
    'a field is missing' => sub { one($_[0], digest => undef) },
    'a bad field'        => sub { one($_[0], created_at => 'never') },
    'no such record'     => sub { ((one($_[0]))[0] => {}) },
    'no hash'            => sub { ((one($_[0]))[0] => 'a text') },
);

$cases{$_} = [$against{$_}, \&no_home, 'two left', $away] for keys %against;

# That was said by the first reply; the second one is that of another workspace.

$cases{'another workspace'} = [
    sub { one($_[0], workspace => "$_[0]-too") },
    sub { { match => asks_left($_[0]), do => { close => 0 } } },
    'two left', $away,
];

# Replies that are no record of a key.

my %odd = (
    'a number' => ":1\r\n", 'nil' => "*-1\r\n",
    'a field too few' => "*7\r\n" . "\$-1\r\n" x 7,
    'an error inside' => "*8\r\n-ERR inside\r\n" . "\$-1\r\n" x 7,
);

for my $what (keys %odd) {
    $cases{$what} = [sub { () }, sub {
        { match => asks_one($_[0]), do => $odd{$what} }
    }, 'two left', $away];
}

# What does not speak against it costs nothing.

$cases{'unchanged'} = [sub { () }, \&no_home, 'one two left', '200 STALE'];
$cases{'all unchanged'} = [sub { () }, sub { () }, 'one two left',
                           '200 MISS'];

for my $error ('LOADING x', 'NOPERM x', 'MASTERDOWN x', 'ERR WRONGTYPE x') {
    $cases{$error} = [sub { () }, sub {
        map { +{ match => $_, do => "-$error\r\n" } } asks_one($_[0]),
            asks_home($_[0])
    }, 'one two left', '200 STALE'];
}

# The workspace is not active, whatever is said of the key.

my %off = (
    'disabled' => sub { workspace_records($_[0], active => undef) },
    'disabled by a 0' => sub { workspace_records($_[0], active => '0') },
    'no workspace' => sub { (workspace_of($_[0]) => {}) },
    'a workspace that is no hash' => sub { (workspace_of($_[0]) => 'x') },
);

sub home { my ($off, $ws) = @_; my @r = $off->($ws);
           return ref $r[0] ? %{ $r[0] } : @r }

my %keys = (
    'the key as before' => sub { () },
    map { $_ => $against{$_} } 'revoked', 'no such record', 'a bad field',
);

for my $how (keys %off) {
    for my $key (keys %keys) {
        $cases{"$how, $key"} = [
            sub { (home($off{$how}, @_), $keys{$key}->(@_)) },
            sub { () }, 'left',
        ];
    }

    $cases{"$how, an error for the key"} = [
        sub { home($off{$how}, @_) },
        sub { { match => asks_one($_[0]), do => "-LOADING x\r\n" } },
        'left', $away,
    ];
}

# The workspace that was asked for first is not that of the key any more.

$cases{'off, and left'} = [
    sub { (home($off{'disabled'}, @_),
           one($_[0], workspace => "$_[0]-too")) },
    sub { () }, 'left', '200 MISS',
];

$cases{'moved to one that is off'} = [
    sub { (one($_[0], workspace => "$_[0]-too"), left_home($_[0]) => {}) },
    sub { () }, 'two', '403 workspace_disabled MISS',
];

my @titles = sort keys %cases;

# Keys whose hints have one place push each other out, and then the workspace
# is asked for only after a good reply for the key.

my (%ws, %places);

for my $title (@titles) {
    for (my $n = 0; !$ws{$title}; $n++) {
        my @ids = ((map { key_id(key_for($_, workspace => "w$n")) }
                    'one', 'two'), key_id(key_for('left', left("w$n"))));
        my @places = map { crc32($_) % 1024 } @ids;

        next if grep { $places{$_} } @places;

        $ws{$title} = "w$n";
        @places{@places} = (1) x 3;
    }
}

my $nginx = Agntkey::Nginx->new(cached(
    redis => "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}",
    cache => 'entries=1000 lease=1s',
    http => 'agntkey_redis_timeout 5s; agntkey_stale 1h;'));


# The keys of these cases are remembered, then Redis holds what is said and
# tells of no changes; each "one" is asked for; then there is no Redis.

sub goes {
    my ($what, $more, @titles) = @_;
    my @good = map { keys_of($ws{$_}) } @titles;
    my @homes = map { (left_home($ws{$_}) => { active => 1 }) } @titles;

    fake_redis(keys => \@good, records => { @homes });

    for my $title (@titles) {
        my $ws = $ws{$title};

        ok(hit('one', workspace => $ws), "$what$title: one is a hit");
        ok(hit('two', workspace => $ws), "$what$title: two is a hit");
        ok(hit('left', left($ws)), "$what$title: left is a hit");
    }

    fake_redis(
        keys => \@good,
        records => { @homes, map { $cases{$_}[0]->($ws{$_}) } @titles },
        rules => [@$more, { match => qr/^SUBSCRIBE/, do => 'close' },
                  map { $cases{$_}[1]->($ws{$_}) } @titles],
    );

    for my $title (@titles) {
        my $ws = $ws{$title};
        my $want = $cases{$title}[3];
        my $said;

        ok(wait_until(15, sub {
            $said = asked('one', workspace => $ws);
            fake_commands(asks_one($ws));
        }), "$what$title: one is asked for");

        next if !defined $want || @$more;

        $said =~ s/^503.*\K MISS$//;
        is($said, $want, "$what$title: the answer");
    }

    fake_stop();

    for my $title (@titles) {
        for my $label ('one', 'two', 'left') {
            my $ws = $ws{$title};
            my @key = $label eq 'left' ? left($ws) : (workspace => $ws);
            my $want = $cases{$title}[2] =~ /\b$label\b/ ? '200 STALE' : $away;
            my $said;

            # The end of the connection may come a moment later.
            wait_until(5, sub { ($said = asked($label, @key)) eq $want });
            is($said, $want, "$what$title: $label");
        }
    }
}

$nginx->start;

goes('', [], @titles);

# What was read counts against it until it is read to be good again.
goes('again: ', [], 'revoked', 'disabled, the key as before', 'unchanged');

# A server that may not be the primary any more can say so, too.
goes('fenced: ', [{ match => qr/^DEL/, do => "-READONLY x\r\n" }],
     'revoked', 'disabled, the key as before', 'unchanged');

ok(defined $nginx->quit, 'quit');
logs_clean();
done_testing();
