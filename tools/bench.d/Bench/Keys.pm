# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Many keys, quickly: what they look like is said in docs/keyspace.md.

package Bench::Keys;

use strict;
use warnings;

use Compress::Zlib ();
use Digest::SHA qw(sha256_base64 sha256_hex);

use Agntkey::Key;

use constant WORKSPACES => 10;
use constant BATCH => 500;


# new(seed): no key that another seed has.

sub new {
    my ($class, $seed) = @_;
    my @workspaces = map { "bench-$_" } 0 .. WORKSPACES - 1;

    return bless {
        seed => $seed, loaded => 0,
        workspaces => [@workspaces],
        tags => [map { workspace_tag($_) } @workspaces],
    }, $class;
}


# The key with this number; always the same.

sub key {
    my ($self, $i) = @_;

    my $text = sha256_base64("$self->{seed}/$i");
    $text =~ tr{+/}{xy};
    $text = "agnt_" . $self->{tags}[$i % WORKSPACES]
            . base62($i, 8) . substr $text, 0, 32;

    return $text . base62(Compress::Zlib::crc32($text), 6);
}


# A key that Redis will not know.

sub unknown {
    my ($self, $i) = @_;
    return $self->key($i + 62 ** 7);
}


# A key with one digit of its check changed.

sub malformed {
    my ($self, $i) = @_;
    my $key = $self->key($i);

    substr $key, -1, 1, substr($key, -1) eq '0' ? '1' : '0';
    return $key;
}


sub add_workspaces {
    my ($self, $redis) = @_;

    $redis->pipeline(map {
        ['HSET', "agntkey:workspace:{" . workspace_tag($_) . "}$_",
         'active', 1, 'created_at', 1700000000000],
        ['ZADD', 'agntkey:workspaces', 0, $_]
    } @{ $self->{workspaces} });
}


# load($redis, $n): from then on Redis has the first n keys.

sub load {
    my ($self, $redis, $n) = @_;

    $self->add_workspaces($redis) if !$self->{loaded};

    while ($self->{loaded} < $n) {
        my $end = $self->{loaded} + BATCH;
        $end = $n if $end > $n;

        my @answers = $redis->pipeline(
            map { $self->command($_) } $self->{loaded} .. $end - 1
        );
        my ($error) = grep { ref $_ eq 'HASH' } @answers;
        die "Redis: $error->{error}\n" if $error;

        $self->{loaded} = $end;
    }
}


sub command {
    my ($self, $i) = @_;
    my $key = $self->key($i);
    my ($tag, $random) = unpack 'x5 a4 a8', $key;

    return [
        'HSET', "agntkey:key:{$tag}$random",
        'digest', sha256_hex($key), 'active', 1,
        'workspace', $self->{workspaces}[$i % WORKSPACES],
        'name', "key $i", 'created_at', 1700000000000,
    ];
}


# write_list($file, $how, $first, $n): one value of Authorization a line.

sub write_list {
    my ($self, $file, $how, $first, $n) = @_;

    open my $out, '>', $file or die "$file: $!\n";
    print $out 'Bearer ', $self->$how($_), "\n" for $first .. $first + $n - 1;
    close $out or die "$file: $!\n";
}


# The same as lines of an nginx map.

sub write_map {
    my ($self, $file, $n) = @_;

    open my $out, '>', $file or die "$file: $!\n";
    printf $out "\"Bearer %s\" 1;\n", $self->key($_) for 0 .. $n - 1;
    close $out or die "$file: $!\n";
}

1;
