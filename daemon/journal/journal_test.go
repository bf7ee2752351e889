package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"countersign.dev/daemon/internal/statefile"
)

var testKey = bytes.Repeat([]byte{7}, 32)

func TestMain(m *testing.M) {
	if path := os.Getenv("JOURNAL_TEST_APPEND"); path != "" {
		appendForever(path)
	}
	os.Exit(m.Run())
}

func journalPath(t testing.TB) string { return filepath.Join(t.TempDir(), "test.log") }

func openJournal(t testing.TB, path string) *Journal {
	t.Helper()
	j, err := Open(path, testKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func fill(t testing.TB, j *Journal, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if _, err := j.Append(t.Context(), []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// contents replays into "number:payload" and checks that the MACs link up.
func contents(t testing.TB, j *Journal) []string {
	t.Helper()
	all := []string{}
	var last []byte
	err := j.Replay(func(seq uint64, payload, prev, mac []byte) error {
		if last != nil && !bytes.Equal(last, prev) {
			t.Errorf("record %d does not follow", seq)
		}
		last = bytes.Clone(mac)
		all = append(all, fmt.Sprintf("%d:%s", seq, payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func expect(t testing.TB, j *Journal, want ...string) {
	t.Helper()
	if got := contents(t, j); !slices.Equal(got, want) {
		t.Errorf("journal holds %q, want %q", got, want)
	}
}

func TestAppendAndReplay(t *testing.T) {
	path := journalPath(t)
	j := openJournal(t, path)
	expect(t, j)
	fill(t, j, "a", "", `{"x":1}`)
	if seq, err := j.AppendLazy([]byte("lazy")); seq != 4 || err != nil {
		t.Fatal(seq, err)
	}
	want := []string{"1:a", "2:", `3:{"x":1}`, "4:lazy"}
	expect(t, j, want...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	if _, err := j.AppendLazy(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	j = openJournal(t, path)
	expect(t, j, want...)
	fill(t, j, "e")
	expect(t, j, append(want, "5:e")...)

	for _, bad := range []string{"a\nb", strings.Repeat("x", MaxPayload+1)} {
		if _, err := j.Append(t.Context(), []byte(bad)); !errors.Is(err, ErrPayload) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	fill(t, j, strings.Repeat("x", MaxPayload))
	j.Close()
	j = openJournal(t, path)
	if seq, mac := j.Head(); seq != 6 || len(mac) != 32 {
		t.Errorf("head %d", seq)
	}
	stop := errors.New("stop")
	if err := j.Replay(func(uint64, []byte, []byte, []byte) error { return stop }); err != stop {
		t.Errorf("replay: %v", err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 { // C6
		t.Errorf("mode %o", info.Mode().Perm())
	}
}

func TestRefusesKeyOfLockedVault(t *testing.T) {
	if _, err := Open(journalPath(t), nil); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

// C6, C7: neither a link nor a file that others may write.
func TestHostileFiles(t *testing.T) {
	path := journalPath(t)
	openJournal(t, path).Close()
	link := journalPath(t)
	if err := os.Symlink(path, link); err != nil {
		t.Skip("links are not to be had here")
	}
	if _, err := Open(link, testKey); !errors.Is(err, statefile.ErrNotFile) {
		t.Errorf("link: %v", err)
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testKey); !errors.Is(err, statefile.ErrExposed) {
		t.Errorf("exposed: %v", err)
	}
}

// Wherever the machine stops within the last record, only that one is lost.
func TestTornTail(t *testing.T) {
	path := journalPath(t)
	j := openJournal(t, path)
	fill(t, j, "a", "b")
	whole := j.Size()
	fill(t, j, "torn")
	j.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tails := [][]byte{bytes.Repeat([]byte{0}, 3*maxLine)}
	for n := whole; n < int64(len(data)); n++ {
		tails = append(tails, data[whole:n])
	}
	for _, tail := range tails {
		if err := os.WriteFile(path, append(bytes.Clone(data[:whole]), tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		j := openJournal(t, path)
		expect(t, j, "1:a", "2:b")
		fill(t, j, "c")
		j.Close()
		j = openJournal(t, path)
		expect(t, j, "1:a", "2:b", "3:c")
		j.Close()
	}
}

// Every flipped bit is found, and said where; nothing is repaired.
func TestTampered(t *testing.T) {
	path := journalPath(t)
	j := openJournal(t, path)
	fill(t, j, "a", "b", "c")
	j.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n")) // header, a, b, c, rest ""
	refuse := func(name string, data []byte, seq uint64) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, testKey)
		var tampered *TamperedError
		if !errors.As(err, &tampered) || tampered.Seq != seq || tampered.File != path {
			t.Errorf("%s: %v, want record %d", name, err, seq)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
			t.Errorf("%s: file was changed", name)
		}
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	refuse("dropped", join(lines[0], lines[1], lines[3]), 2)
	refuse("dropped first", join(lines[0], lines[2], lines[3]), 1)
	refuse("swapped", join(lines[0], lines[2], lines[1], lines[3]), 1)
	refuse("doubled", join(lines[0], lines[1], lines[1]), 2)
	refuse("no header", join(lines[1], lines[2]), 0)
	refuse("empty", nil, 0)
	refuse("empty line", join(good, []byte("\n")), 4)
	refuse("forged", join(good, []byte("4 "+strings.Repeat("0", macText)+" x\n")), 4)
	refuse("long", join(good, bytes.Repeat([]byte("x"), 2*maxLine), []byte("\n")), 4)
	for at := range len(good) - 1 { // the last byte's loss is a torn record
		data := bytes.Clone(good)
		data[at] ^= 1 << (at % 8)
		seq := uint64(bytes.Count(good[:at], []byte("\n")))
		refuse(fmt.Sprintf("bit in byte %d", at), data, seq)
	}
	other := journalPath(t)
	o, err := Open(other, bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	foreign, _ := os.ReadFile(other)
	refuse("another journal", foreign, 0)

	// While open, what is not ours shows in Replay.
	os.WriteFile(path, good, 0o600)
	j = openJournal(t, path)
	if err := os.Truncate(path, int64(len(good))-5); err != nil {
		t.Fatal(err)
	}
	var tampered *TamperedError
	if err := j.Replay(func(uint64, []byte, []byte, []byte) error { return nil }); !errors.As(err, &tampered) || tampered.Seq != 3 {
		t.Errorf("cut while open: %v", err)
	}
}

func TestRewrite(t *testing.T) {
	path := journalPath(t)
	j := openJournal(t, path)
	fill(t, j, "a", "b", "c", "d")
	macOf := func(n uint64) (m string) {
		j.Replay(func(seq uint64, _, _, mac []byte) error {
			if seq == n {
				m = fmt.Sprintf("%x", mac)
			}
			return nil
		})
		return m
	}
	drop := func(which string) {
		t.Helper()
		if err := j.Rewrite(func(p []byte) bool { return !strings.Contains(which, string(p)) }); err != nil {
			t.Fatal(err)
		}
	}
	before := macOf(4)
	drop("ab")
	expect(t, j, "3:c", "4:d")
	if macOf(4) != before {
		t.Error("dropping the oldest changed the others' MACs")
	}
	fill(t, j, "e", "f")
	drop("d")
	expect(t, j, "3:c", "5:e", "6:f")
	j.Close()
	j = openJournal(t, path)
	expect(t, j, "3:c", "5:e", "6:f")
	drop("cef")
	expect(t, j)
	fill(t, j, "g")
	expect(t, j, "7:g")
	j.Close()
	j = openJournal(t, path)
	expect(t, j, "7:g")
	if j.header.Generation != 4 {
		t.Errorf("generation %d", j.header.Generation)
	}
	names, _ := os.ReadDir(filepath.Dir(path))
	if len(names) != 1 {
		t.Errorf("left %v", names)
	}
}

func TestRewriteRefusesTampered(t *testing.T) {
	path := journalPath(t)
	j := openJournal(t, path)
	fill(t, j, "a", "b")
	data, _ := os.ReadFile(path)
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var tampered *TamperedError
	if err := j.Rewrite(func([]byte) bool { return true }); !errors.As(err, &tampered) {
		t.Errorf("%v", err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	path := journalPath(t)
	j := openJournal(t, path)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				seq, err := j.Append(t.Context(), []byte("x"))
				if err != nil || seq == 0 {
					t.Error(seq, err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := j.Rewrite(func([]byte) bool { return true }); err != nil {
				t.Error(err)
			}
			contents(t, j)
		}
	})
	wg.Wait()
	j.Close()
	if n := len(contents(t, openJournal(t, path))); n != 160 {
		t.Errorf("%d records", n)
	}
}

func TestAppendGivesUp(t *testing.T) {
	j := openJournal(t, journalPath(t))
	ctx, cancel := context.WithCancel(t.Context())
	j.syncing <- struct{}{} // an fsync that hangs
	done := make(chan error)
	go func() {
		_, err := j.Append(ctx, []byte("x"))
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-j.syncing
}

func TestNumberOfSyncs(t *testing.T) {
	j := openJournal(t, journalPath(t))
	// Eight callers whose lines are written before the first of them syncs.
	j.syncing <- struct{}{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := j.Append(t.Context(), []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	for seq := uint64(0); seq < 8; {
		seq, _ = j.Head()
	}
	<-j.syncing
	wg.Wait()
	if j.syncs != 1 {
		t.Errorf("%d fsyncs for eight callers", j.syncs)
	}
}

func appendForever(path string) {
	j, err := Open(path, testKey)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		seq, err := j.Append(context.Background(), []byte(strings.Repeat("x", i%500)))
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(seq) // from here on it must be there
		if i%50 == 49 {
			j.Rewrite(func([]byte) bool { return true })
		}
	}
}

// kill -9 in the middle of it: what was acknowledged is there.
func TestKilledWriter(t *testing.T) {
	path := journalPath(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 10 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "JOURNAL_TEST_APPEND="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged uint64
		for range 5 + round*10 {
			if _, err := fmt.Fscan(out, &acknowledged); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		j := openJournal(t, path)
		if seq, _ := j.Head(); seq < acknowledged {
			t.Fatalf("record %d was acknowledged, the journal ends at %d", acknowledged, seq)
		}
		j.Close()
	}
}
