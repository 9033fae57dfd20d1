#!/usr/bin/perl
# The Merkle tree of RFC 6962 a second time, in another language and by its recursive definition, against the frozen
# vectors beside it: perl tests/vectors/merkle.pl tests/vectors/merkle.txt. Needs Digest::SHA, which comes with perl.
# It shares nothing with the Python: no code, no author's shortcut, no stored subtrees.
use strict;
use warnings;
use Digest::SHA qw(sha256 sha256_hex);

my (@leaves, %memo);

sub split_at {    # the largest power of two below the count
    my ($count) = @_;
    my $half = 1;
    $half *= 2 while $half * 2 < $count;
    return $half;
}

sub root {        # section 2.1
    my ($begin, $end) = @_;
    return sha256("") if $begin == $end;
    return $memo{"$begin,$end"} //= do {
        my $count = $end - $begin;
        my $middle = $begin + ($count > 1 ? split_at($count) : 0);
        $count == 1 ? sha256("\x00" . $leaves[$begin]) : sha256("\x01" . root($begin, $middle) . root($middle, $end));
    };
}

sub path {        # section 2.1.1
    my ($index, $begin, $end) = @_;
    return () if $end - $begin == 1;
    my $middle = $begin + split_at($end - $begin);
    return (path($index, $begin, $middle), root($middle, $end)) if $index < $middle;
    return (path($index, $middle, $end), root($begin, $middle));
}

sub proof {       # section 2.1.2
    my ($old, $begin, $end, $whole) = @_;
    return $whole ? () : (root($begin, $end)) if $old == $end;
    my $middle = $begin + split_at($end - $begin);
    return (proof($old, $begin, $middle, $whole), root($middle, $end)) if $old <= $middle;
    return (proof($old, $middle, $end, 0), root($begin, $middle));
}

sub line { return join(" ", map { ref $_ ? $$_ : unpack("H*", $_) } @_) . "\n" }

my ($checked, $wrong) = (0, 0);

sub compare {
    my ($what, $wanted, $found) = @_;
    $checked++;
    return if $wanted eq $found;
    $wrong++;
    print "WRONG $what\n";
}

while (my $text = <>) {
    chomp $text;
    next if $text eq "" or $text =~ /^#/;
    my ($word, $number, $value) = split / /, $text;
    if ($word eq "leaves") {
        %memo = ();
        @leaves = $value eq "numbered" ? map { "leaf $_" } 0 .. $number - 1 : ();
    } elsif ($word eq "leaf") {
        %memo = ();
        $leaves[$number] = pack("H*", $value // "");
    } elsif ($word eq "root") {
        compare($text, $value, unpack("H*", root(0, $number)));
    } elsif ($word eq "inclusion") {
        my $all = join "", map { line(\"$_", path($_, 0, $number)) } 0 .. $number - 1;
        compare($text, $value, sha256_hex($all));
    } elsif ($word eq "consistency") {
        my $all = join "", map { line(\"$_", proof($_, 0, $number, 1)) } 1 .. $number;
        compare($text, $value, sha256_hex($all));
    } else {
        die "a line of another form: $text\n";
    }
}
print "$checked vectors, $wrong wrong\n";
exit($wrong || !$checked ? 1 : 0);
