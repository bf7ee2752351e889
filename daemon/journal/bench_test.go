package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// floor is the p50 of one write and one fsync of a line of the same size.
func floor(b *testing.B, line []byte, n int) time.Duration {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "floor"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	return median(n, func() {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	})
}

func median(n int, f func()) time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		f()
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[n/2]
}

var benchPayload = bytes.Repeat([]byte("x"), 200)

// BenchmarkAppend: goal at most 1.25 x the floor of the same run.
func BenchmarkAppend(b *testing.B) {
	j := openJournal(b, journalPath(b))
	line := appendRecord(nil, 1, mac{}, benchPayload)
	const rounds = 400
	var ours, bare []time.Duration
	for b.Loop() {
		bare = append(bare, floor(b, line, rounds))
		ours = append(ours, median(rounds, func() {
			if _, err := j.Append(b.Context(), benchPayload); err != nil {
				b.Fatal(err)
			}
		}))
	}
	slices.Sort(ours)
	slices.Sort(bare)
	p50, p50bare := ours[len(ours)/2], bare[len(bare)/2]
	b.ReportMetric(float64(p50.Microseconds()), "p50_us")
	b.ReportMetric(float64(p50)/float64(p50bare), "x_floor")
}

// BenchmarkAppend8: eight at once share fsyncs; goal well under 8 x the time
// of one alone.
func BenchmarkAppend8(b *testing.B) {
	j := openJournal(b, journalPath(b))
	line := appendRecord(nil, 1, mac{}, benchPayload)
	const each = 100
	var ratio []float64
	for b.Loop() {
		bare := floor(b, line, each)
		before := j.syncs
		start := time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range each {
					if _, err := j.Append(b.Context(), benchPayload); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		ratio = append(ratio, float64(time.Since(start))/(8*each)/float64(bare))
		b.ReportMetric(float64(j.syncs-before)/(8*each), "fsyncs/record")
	}
	slices.Sort(ratio)
	b.ReportMetric(ratio[len(ratio)/2], "x_floor")
}
