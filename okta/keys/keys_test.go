package keys_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"countersign.dev/okta/jose"
	"countersign.dev/okta/keys"
)

const issuer = "https://id.example.com"

var point = sync.OnceValue(func() jose.JWK {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	jwk, err := jose.NewJWK("", key.Public(), "")
	if err != nil {
		panic(err)
	}
	return jwk
})

// named returns the same good key under another kid.
func named(kids ...string) []jose.JWK {
	var list []jose.JWK
	for _, kid := range kids {
		k := point()
		k.KeyID = kid
		list = append(list, k)
	}
	return list
}

// org is a source of keys that counts how often it is asked.
type org struct {
	mu    sync.Mutex
	keys  []jose.JWK
	age   time.Duration
	err   error
	takes time.Duration
	asked atomic.Int32
}

func (o *org) publish(age time.Duration, keys ...jose.JWK) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys, o.age, o.err = keys, age, nil
}

func (o *org) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

func (o *org) fetch(ctx context.Context, _ string) ([]jose.JWK, time.Duration, error) {
	o.asked.Add(1)
	o.mu.Lock()
	takes, list, age, err := o.takes, o.keys, o.age, o.err
	o.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	return list, age, err
}

// wants looks a kid up and says what should come.
func wants(t *testing.T, c *keys.Cache, kid string, want error) {
	t.Helper()
	key, err := c.Key(t.Context(), issuer, kid)
	if want == nil && (err != nil || key.KeyID != kid) || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: got %q, %v; want %v", kid, key.KeyID, err, want)
	}
}

func asked(t *testing.T, o *org, want int32) {
	t.Helper()
	if got := o.asked.Load(); got != want {
		t.Errorf("asked %d times, want %d", got, want)
	}
}

func TestAge(t *testing.T) {
	for _, c := range []struct {
		name      string
		says, age time.Duration
	}{
		{"nothing said", 0, time.Minute}, {"too short", time.Second, time.Minute},
		{"an hour", time.Hour, time.Hour}, {"a month", 30 * 24 * time.Hour, 24 * time.Hour}, {"negative", -time.Hour, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &org{}
				o.publish(c.says, named("a")...)
				cache := keys.New(o.fetch)
				wants(t, cache, "a", nil)
				time.Sleep(c.age - time.Second)
				wants(t, cache, "a", nil)
				asked(t, o, 1)
				time.Sleep(time.Second)
				wants(t, cache, "a", nil)
				asked(t, o, 2)
			})
		})
	}
}

func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{takes: time.Second}
		o.publish(time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { wants(t, cache, "a", nil) })
		}
		group.Wait()
		asked(t, o, 1)
	})
}

// A caller that gives up does not spoil the fetch for those who wait.
func TestCancelledLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{takes: time.Second}
		o.publish(time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := cache.Key(ctx, issuer, "a"); !errors.Is(err, context.Canceled) {
				t.Errorf("leader: %v", err)
			}
		})
		synctest.Wait()
		group.Go(func() { wants(t, cache, "a", nil) })
		synctest.Wait()
		cancel()
		group.Wait()
		asked(t, o, 2)
	})
}

func TestCancelledFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{takes: time.Hour}
		o.publish(time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		var group sync.WaitGroup
		group.Go(func() { wants(t, cache, "a", nil) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := cache.Key(ctx, issuer, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("follower: %v", err)
		}
		group.Wait()
	})
}

// E2: the org changes its key while the agent runs; the next token is fine at
// once, and the withdrawn key is gone.
func TestE2RotateWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{}
		o.publish(time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "a", nil)
		for i := range 5 { // five times in a row, without waiting
			kid := fmt.Sprintf("b%d", i)
			o.publish(time.Hour, named(kid)...)
			wants(t, cache, kid, nil)
		}
		asked(t, o, 6)
		wants(t, cache, "a", keys.ErrUnknownKey)
	})
}

// E2: tokens that name keys nobody published cannot make the agent hammer the
// org, whether they name always the same or always another.
func TestE2HostileKeyIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{}
		o.publish(24*time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "a", nil)
		for range 1000 {
			wants(t, cache, "nope", keys.ErrUnknownKey)
		}
		asked(t, o, 2)
		for i := range 10000 {
			wants(t, cache, fmt.Sprintf("hostile-%d", i), keys.ErrUnknownKey)
		}
		asked(t, o, 2)
		for i := range 3600 { // an hour of one per second
			time.Sleep(time.Second)
			wants(t, cache, fmt.Sprintf("slow-%d", i), keys.ErrUnknownKey)
			wants(t, cache, "a", nil)
		}
		if n := o.asked.Load(); n > 25 {
			t.Errorf("asked %d times in an hour", n)
		}
		o.publish(24*time.Hour, named("a", "new")...)
		time.Sleep(5 * time.Minute) // the longest wait
		wants(t, cache, "new", nil)
	})
}

// E2: giving up early is no way around the wait.
func TestE2HostileAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{}
		o.publish(24*time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "a", nil)
		o.takes = time.Minute
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if _, err := cache.Key(ctx, issuer, fmt.Sprintf("x%d", i)); err == nil {
				t.Error("found")
			}
			cancel()
		}
		asked(t, o, 2)
	})
}

// E2: a kid is an index, whatever it looks like.
func TestE2KeyIDIsOpaque(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{}
		o.publish(time.Hour, named("../../etc/passwd", "a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "../../etc/passwd", nil)
		for _, kid := range []string{"https://evil.example/key", "a\x00", "A", " a", "' OR 1=1 --"} {
			wants(t, cache, kid, keys.ErrUnknownKey)
		}
		before := o.asked.Load()
		wants(t, cache, "", keys.ErrUnknownKey)
		wants(t, cache, strings.Repeat("k", 257), keys.ErrUnknownKey)
		if _, err := cache.Key(t.Context(), "", "a"); !errors.Is(err, keys.ErrUnknownKey) {
			t.Errorf("no issuer: %v", err)
		}
		asked(t, o, before)
	})
}

// E2, E5: a key of one issuer is no key of another.
func TestE2IssuersApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := keys.New(func(_ context.Context, iss string) ([]jose.JWK, time.Duration, error) {
			return named("key-of-" + iss), time.Hour, nil
		})
		if _, err := cache.Key(t.Context(), "https://a.example", "key-of-https://a.example"); err != nil {
			t.Error(err)
		}
		if _, err := cache.Key(t.Context(), "https://b.example", "key-of-https://a.example"); !errors.Is(err, keys.ErrUnknownKey) {
			t.Errorf("got %v", err)
		}
	})
}

// E2: what is published may be hostile too.
func TestE2PublishedSets(t *testing.T) {
	bad := func(change func(*jose.JWK)) jose.JWK {
		k := named("bad")[0]
		change(&k)
		return k
	}
	var huge []jose.JWK
	for i := range 10000 {
		huge = append(huge, named(fmt.Sprint(i))...)
	}
	first, second := named("a")[0], named("a")[0]
	first.KPR, second.KPR = "FIRST", "SECOND"
	for _, c := range []struct {
		name string
		set  []jose.JWK
		good bool // "a" is found
	}{
		{"unknown entries beside", append([]jose.JWK{{KeyType: "OKP", KeyID: "x"}, {KeyType: "oct", KeyID: "y"}, {}}, first), true},
		{"unusable entries beside", append([]jose.JWK{
			bad(func(k *jose.JWK) { k.Algorithm = "HS256" }), bad(func(k *jose.JWK) { k.X = k.Y }), bad(func(k *jose.JWK) { k.Use = "enc" }),
			bad(func(k *jose.JWK) { k.KeyID = "" }), bad(func(k *jose.JWK) { k.KeyID = strings.Repeat("k", 300) }),
		}, first), true},
		{"same kid twice", []jose.JWK{first, second}, true},
		{"nothing", nil, false},
		{"nothing usable", []jose.JWK{{KeyType: "oct", KeyID: "a"}}, false},
		{"ten thousand", append(huge, first), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &org{}
				o.publish(time.Hour, c.set...)
				key, err := keys.New(o.fetch).Key(t.Context(), issuer, "a")
				if (err == nil) != c.good || c.good && key.KPR != "FIRST" {
					t.Errorf("%+v, %v", key, err)
				}
				if _, err := keys.New(o.fetch).Key(t.Context(), issuer, "bad"); err == nil {
					t.Error("an unusable key is given out")
				}
			})
		})
	}
}

// E2: during an outage the last good keys stay in use for a day, a rotation is
// noticed soon after, and the org is not stormed.
func TestE2Outage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		o := &org{}
		o.publish(time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "a", nil)
		o.fail(down)
		time.Sleep(time.Hour)
		for range 1000 {
			wants(t, cache, "a", nil)
		}
		asked(t, o, 2)
		wants(t, cache, "b", down) // not "unknown": nobody could be asked
		for range 3600 {
			time.Sleep(time.Second)
			wants(t, cache, "a", nil)
		}
		if n := o.asked.Load(); n > 2+3600/10+10 {
			t.Errorf("asked %d times in an hour of outage", n)
		}
		o.publish(time.Hour, named("b")...) // rotated meanwhile
		time.Sleep(10 * time.Second)        // the longest wait
		wants(t, cache, "b", nil)
		wants(t, cache, "a", keys.ErrUnknownKey)

		o.fail(down)
		time.Sleep(time.Hour + 24*time.Hour - time.Second)
		wants(t, cache, "b", nil)
		time.Sleep(time.Minute)
		wants(t, cache, "b", down)
	})
}

// E2: a rogue answer in the middle of an outage, a set without any key or too
// large, does not replace the good one.
func TestE2RogueSetKeepsGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{}
		o.publish(time.Minute, named("a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "a", nil)
		o.publish(time.Minute, jose.JWK{KeyType: "oct", KeyID: "a"})
		time.Sleep(time.Minute)
		wants(t, cache, "a", nil)
		asked(t, o, 2)
	})
}

func TestDownFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		o := &org{err: down}
		cache := keys.New(o.fetch)
		for range 100 {
			wants(t, cache, "a", down)
		}
		asked(t, o, 1)
		o.publish(time.Hour, named("a")...)
		time.Sleep(500 * time.Millisecond)
		wants(t, cache, "a", nil)
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{takes: time.Second}
		o.publish(time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		wants(t, cache, "a", nil)
		cache.Forget(issuer)
		cache.Forget("https://never.example")
		var group sync.WaitGroup
		group.Go(func() { wants(t, cache, "a", nil) })
		synctest.Wait()
		cache.Forget(issuer) // in the middle of a fetch
		group.Wait()
		wants(t, cache, "a", nil)
	})
}

// E2: however many issuers are asked for, the cache stays small; the one in
// use stays in it.
func TestE2ManyIssuers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &org{}
		o.publish(24*time.Hour, named("a")...)
		cache := keys.New(o.fetch)
		for i := range 500 {
			time.Sleep(time.Millisecond)
			wants(t, cache, "a", nil)
			if _, err := cache.Key(t.Context(), fmt.Sprintf("https://%d.example", i), "a"); err != nil {
				t.Fatal(err)
			}
		}
		asked(t, o, 501)
	})
}

func BenchmarkKey(b *testing.B) {
	o := &org{}
	o.publish(time.Hour, named("a")...)
	cache := keys.New(o.fetch)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := cache.Key(context.Background(), issuer, "a"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
