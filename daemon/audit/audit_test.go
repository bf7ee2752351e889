package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"countersign.dev/daemon/journal"
)

var (
	testKey = bytes.Repeat([]byte{3}, 32)
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
)

func openLog(t *testing.T, path string) *Log {
	t.Helper()
	j, err := journal.Open(path, testKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	l, err := Open(j)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func record(t *testing.T, l *Log, r Record) Record {
	t.Helper()
	r, err := l.Record(r)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func all(t *testing.T, l *Log, from uint64) (records []Record) {
	t.Helper()
	for r, err := range l.Records(from) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

func TestRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := openLog(t, path)
	var made []Record
	for i := range 5 {
		made = append(made, record(t, l, Record{Time: noon, Event: "challenge", Outcome: "approved", Account: fmt.Sprint(i), KeyType: "proofOfPossession"}))
	}
	read := all(t, l, 0)
	for i, r := range read {
		if r != made[i] || r.Seq != uint64(i+1) || len(r.Hash) != 64 {
			t.Errorf("read %+v, made %+v", r, made[i])
		}
		if i > 0 && r.Prev != read[i-1].Hash {
			t.Errorf("record %d does not follow", r.Seq)
		}
	}
	if late := all(t, l, 4); len(late) != 2 || late[0].Seq != 4 {
		t.Errorf("from 4: %+v", late)
	}
	for range l.Records(0) {
		break
	}
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	// Somebody edits an outcome behind the agent's back.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(data, []byte(`"account":"2"`))
	data[at+11] = '9'
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var tampered *journal.TamperedError
	if err := l.Verify(); !errors.As(err, &tampered) || tampered.Seq != 3 {
		t.Errorf("verify: %v", err)
	}
	n := 0
	for r, err := range l.Records(0) {
		if n++; err != nil && n != 3 {
			t.Errorf("error %v as %d", err, n)
		} else if err == nil && r.Seq > 2 {
			t.Errorf("record %d came from a broken chain", r.Seq)
		}
	}
}

func TestSubscribe(t *testing.T) {
	l := openLog(t, filepath.Join(t.TempDir(), "audit.log"))
	reader, stop := l.Subscribe()
	slow, _ := l.Subscribe()
	cancelled, cancel := l.Subscribe()
	cancel()
	cancel()
	if _, ok := <-cancelled; ok {
		t.Error("cancelled subscriber got a record")
	}
	for i := range backlog + 1 {
		record(t, l, Record{Time: noon, Event: "x"})
		if r := <-reader; r.Seq != uint64(i+1) {
			t.Errorf("got %d", r.Seq)
		}
	}
	n := 0
	for range slow { // closed: the slow one was dropped, with what it had kept
		n++
	}
	if n != backlog {
		t.Errorf("slow subscriber has %d", n)
	}
	stop()
	last, _ := l.Subscribe()
	l.Close()
	if _, ok := <-last; ok {
		t.Error("record after close")
	}
	after, _ := l.Subscribe()
	if _, ok := <-after; ok {
		t.Error("subscribed to a closed log")
	}
}

func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := openLog(t, path)
	l.limit = 8 << 10
	var last Record
	for range 200 {
		last = record(t, l, Record{Time: noon, Event: "challenge", Reason: strings.Repeat("r", 50)})
		if size := l.journal.Size(); size > l.limit {
			t.Fatalf("%d bytes", size)
		}
	}
	read := all(t, l, 0)
	if n := len(read); n < 10 || n > 60 || read[n-1] != last || last.Seq != 200 {
		t.Fatalf("%d records, last %+v", n, read[n-1])
	}
	if err := l.Verify(); err != nil {
		t.Fatal(err)
	}
	l.journal.Close()
	if again := all(t, openLog(t, path), 0); len(again) != len(read) {
		t.Errorf("%d after reopening, %d before", len(again), len(read))
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "plain",
		"two\nlines\r\n":             "two lines  ",
		"\x1b[2Jgone\x07":            "[2Jgone",
		"evil\u202egnp.exe":          "evilgnp.exe",
		"zero\u200bwidth\ufeff":      "zerowidth",
		"bad\xffutf8":                "bad\uFFFDutf8",
		"Zoë 日本":                     "Zoë 日本",
		strings.Repeat("é", 300):     strings.Repeat("é", maxText-1) + "…",
		strings.Repeat("é", maxText): strings.Repeat("é", maxText),
	} {
		if got := clean(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\u202e\n")
	f.Add(strings.Repeat("x", 1000))
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxText || clean(got) != got {
			t.Errorf("%q became %q", s, got)
		}
		for _, r := range got {
			if r < 0x20 || r == 0x7f || r == '\u202e' {
				t.Errorf("%q kept %q", s, r)
			}
		}
	})
}
