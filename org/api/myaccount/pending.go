package myaccount

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"countersign.dev/okta"
	"countersign.dev/org/api/gate"
	"countersign.dev/org/api/httpx"
	"countersign.dev/org/device"
	"countersign.dev/org/park"
	"countersign.dev/org/store"
)

// Any of these scopes lets a token read the pending list.
var pendingScopes = []string{ScopeMaintenanceRead, ScopeMaintenanceManage, ScopeManage}

// pending answers with the pushes that wait for an enrolment. A caller that
// prefers to wait (RFC 7240, extension) hears when there is something new to
// it: something at all, or with If-None-Match something else. Beside the list
// stands the newest notice (extension).
func (s *server) pending(w http.ResponseWriter, r *http.Request) {
	id := strings.Clone(r.PathValue("id")) // it may be kept, and the request should not be
	by, err := s.gate.Caller(r, id, pendingScopes...)
	if err != nil {
		s.gate.TurnAway(w, r, err)
		return
	}
	var turn park.Turn
	if s.Lot != nil {
		turn = s.Lot.Look(id)
	}
	standing, err := s.Registry.Admit(r.Context(), by, id)
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	// Charged after the caller is known, so that nobody uses up another's.
	if again, ok := s.polls.take(id, s.Now()); !ok {
		tooManyPolls(w, again, s.Now())
		return
	}
	var now pendingList
	err = s.DB.Read(r.Context(), func(tx store.Tx) (err error) {
		now, err = s.list(r.Context(), tx, id)
		return err
	})
	if err != nil {
		httpx.Fail(w, r, s.Log, err)
		return
	}
	known := r.Header.Values("If-None-Match")
	knows := matches(known, now.tag)
	news := !knows && (len(known) > 0 || len(now.challenges) > 0)
	if wait := preferredWait(r.Header); !news && wait > 0 && s.Lot != nil && r.Method == http.MethodGet {
		who := &waiter{server: s, standing: standing, ticket: gate.TicketOf(r), tag: now.tag, knows: knows, wait: wait}
		err := s.Lot.Park(w, r, park.Place{Key: id, Turn: turn, Wait: wait, For: who})
		if err == nil {
			return
		}
		s.Log.DebugContext(r.Context(), "answering at once", "enrolment", id, "error", err)
	}
	now.write(w, knows)
}

// wake lets callers that wait for an enrolment look again whether they may.
func (s *server) wake(id string) {
	if s.Lot != nil {
		s.Lot.Notify([]string{id})
	}
}

// pendingList is the list at one moment. The tag is of the list and of the
// newest notice, so that one alone is news, too.
type pendingList struct {
	challenges []okta.PendingChallenge
	notice     int64 // 0: there is none
	tag        string
}

func (s *server) list(ctx context.Context, tx store.Tx, id string) (pendingList, error) {
	waiting, err := s.Pending(ctx, tx, id, s.Now())
	if err != nil {
		return pendingList{}, err
	}
	notice, err := device.NewestNotice(ctx, tx, id, s.Now())
	if err != nil {
		return pendingList{}, err
	}
	return listOf(waiting, notice), nil
}

func listOf(waiting []okta.PendingChallenge, notice int64) pendingList {
	l := pendingList{challenges: append([]okta.PendingChallenge{}, waiting...), notice: notice} // an empty list is [] on the wire
	b, _ := json.Marshal(l.challenges)                                                          // strings always encode
	if notice != 0 {
		b = strconv.AppendInt(b, notice, 10)
	}
	sum := sha256.Sum256(b)
	l.tag = `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return l
}

func (l pendingList) write(w http.ResponseWriter, known bool) {
	w.Header().Set("ETag", l.tag)
	w.Header().Add("Vary", "Prefer")
	if l.notice != 0 {
		w.Header().Set(okta.HeaderNotice, strconv.FormatInt(l.notice, 10))
	}
	if known {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	httpx.WriteJSONAs(w, http.StatusOK, mediaType, l.challenges)
}

// waiter is a caller that waits for the list to change.
type waiter struct {
	*server
	standing device.Standing
	ticket   gate.Ticket
	tag      string // of the list when it began to wait
	knows    bool   // it has that list already; otherwise the list was empty
	wait     time.Duration
}

// Answer implements park.Answerer. What let the caller in when it came must
// still let it in: waiting is no way around a revoked token.
func (p *waiter) Answer(ctx context.Context, why park.Reason, w http.ResponseWriter) bool {
	now := listOf(nil, 0)
	if why == park.Closing {
		now.tag = p.tag // nothing new, as far as it was told
	} else {
		var err error
		if now, err = p.look(ctx); err != nil {
			p.fail(ctx, w, err)
			return true
		}
	}
	if why == park.Notified && now.tag == p.tag {
		return false
	}
	w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(p.wait/time.Second)))
	now.write(w, p.knows && now.tag == p.tag)
	return true
}

func (p *waiter) look(ctx context.Context) (now pendingList, err error) {
	if err := p.gate.Recheck(ctx, p.ticket, pendingScopes...); err != nil {
		return now, err
	}
	err = p.DB.Read(ctx, func(tx store.Tx) error {
		if err := device.Recheck(ctx, tx, p.standing); err != nil {
			return err
		}
		now, err = p.list(ctx, tx, p.standing.EnrolmentID())
		return err
	})
	return now, err
}

func (p *waiter) fail(ctx context.Context, w http.ResponseWriter, err error) {
	var refusal *okta.Error
	if !errors.As(err, &refusal) && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "answering a caller that waited", "enrolment", p.standing.EnrolmentID(), "error", err)
	}
	httpx.WriteError(w, refusal) // nil is an internal error
}

// maxWait bounds how long a caller may wait.
const maxWait = 60 * time.Second

// preferredWait reads "Prefer: wait=N" (RFC 7240, 4.3): 0 for none that is
// well-formed, at most maxWait. Of a preference given twice the first counts.
func preferredWait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";") // its parameters
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			value = strings.TrimSpace(value)
			if inner, ok := strings.CutPrefix(value, `"`); ok && strings.HasSuffix(inner, `"`) {
				value = strings.TrimSuffix(inner, `"`)
			}
			return seconds(value)
		}
	}
	return 0
}

func seconds(digits string) time.Duration {
	if digits == "" || strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil { // more than fits
		return maxWait
	}
	return min(time.Duration(n)*time.Second, maxWait)
}

// matches says whether If-None-Match names a tag (RFC 9110, 13.1.2).
func matches(headers []string, tag string) bool {
	for _, line := range headers {
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == tag || candidate == "*" {
				return true
			}
		}
	}
	return false
}

func tooManyPolls(w http.ResponseWriter, again time.Duration, now time.Time) {
	again = (again + time.Second - 1).Truncate(time.Second)
	h := w.Header()
	h.Set("X-Rate-Limit-Limit", strconv.Itoa(pollsPerMinute))
	h.Set("X-Rate-Limit-Remaining", "0")
	h.Set("X-Rate-Limit-Reset", strconv.FormatInt(now.Add(again+time.Second-1).Unix(), 10))
	h.Set("Retry-After", strconv.Itoa(int(again/time.Second)))
	httpx.WriteError(w, okta.NewError(okta.CodeTooManyRequests))
}
