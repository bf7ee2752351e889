package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/ipc/api"
)

// A code that is about to end is waited over, once.
func TestLastingCode(t *testing.T) {
	refused := errors.New("refused")
	for _, row := range []struct {
		name    string
		minLeft time.Duration
		codes   []int // seconds left of each in turn; -1: refused
		want    int
		err     error
		waited  time.Duration
	}{
		{"any will do", 0, []int{0}, 0, nil, 0},
		{"lasts", 5 * time.Second, []int{5}, 5, nil, 0},
		{"about to end", 5 * time.Second, []int{4, 29}, 29, nil, 5 * time.Second},
		{"ended already", 5 * time.Second, []int{0, 29}, 29, nil, time.Second},
		{"never lasts so long", 40 * time.Second, []int{20, 29, 29}, 29, nil, 21 * time.Second},
		{"refused", 5 * time.Second, []int{-1}, 0, refused, 0},
		{"refused after the wait", 5 * time.Second, []int{1, -1}, 0, refused, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			start, calls := time.Now(), 0
			got, err := lasting(t.Context(), row.minLeft, func(context.Context) (api.Code, error) {
				calls++
				if left := row.codes[calls-1]; left >= 0 {
					return api.Code{ExpiresInSeconds: left}, nil
				}
				return api.Code{}, refused
			})
			if !errors.Is(err, row.err) || got.ExpiresInSeconds != row.want || time.Since(start) != row.waited || calls > 2 {
				t.Errorf("%s: %+v, %v after %s and %d calls", row.name, got, err, time.Since(start), calls)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err := lasting(ctx, 20*time.Second, func(context.Context) (api.Code, error) {
			return api.Code{Code: "123456", ExpiresInSeconds: 10}, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) || got.Code != "" {
			t.Errorf("interrupted: %+v, %v", got, err)
		}
	})
}
