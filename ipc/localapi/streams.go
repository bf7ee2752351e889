package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"countersign.dev/ipc/api"
)

// stream writes lines to a caller that may stay for days. Every write has its
// own deadline: a caller that stops reading is let go.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newStream(c *call, mediaType string) *stream {
	h := c.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return &stream{c.w, http.NewResponseController(c.w)}
}

func (s *stream) write(b []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.w.Write(b)
	return err
}

func (s *stream) flush() error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.control.Flush()
}

func (s *stream) event(e api.Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := s.write(fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, data)); err != nil {
		return err
	}
	return s.flush()
}

func (s *stream) record(r api.AuditRecord) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.write(append(line, '\n'))
}

// untilQuit is the caller's context, ended by Shutdown too.
func (s *Server) untilQuit(c *call) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.ctx)
	stop := context.AfterFunc(s.quit, cancel)
	return ctx, func() { stop(); cancel() }
}

// events says hello once the subscription stands, so that the caller knows
// that nothing from here on escapes it, and then passes on what happens.
// Nothing is sent when nothing happens.
func (s *Server) events(c *call) (any, error) {
	ctx, cancel := s.untilQuit(c)
	defer cancel()
	events, err := s.agent.Subscribe(ctx, c.query.Get(frontEndParameter.name))
	if err != nil {
		return nil, err
	}
	out := newStream(c, eventType)
	if err := out.event(api.Event{Type: "hello", Time: time.Now()}); err != nil {
		return nil, nil // the caller has gone
	}
	for e := range events {
		if err := out.event(e); err != nil {
			break
		}
	}
	return nil, nil
}

// audit writes what is on record and, with follow, what comes. Events only wake
// it up; what it writes always comes from the record, so that a slow caller
// misses nothing.
func (s *Server) audit(c *call) (any, error) {
	if c.query.Get("verify") == "true" {
		err := s.agent.VerifyAudit(c.ctx)
		if refusal := (*api.Error)(nil); errors.As(err, &refusal) {
			return nil, refusal // it could not be looked at, which is another thing
		}
		if err != nil {
			return nil, &api.Error{Status: http.StatusConflict, Code: "audit_broken", Message: "the record of decisions is broken: " + err.Error()}
		}
	}
	ctx, cancel := s.untilQuit(c)
	defer cancel()
	next, _ := strconv.ParseUint(c.query.Get("from"), 10, 64) // checked by readQuery
	follow := c.query.Get("follow") == "true"
	var out *stream
	for {
		var events <-chan api.Event
		if follow {
			// Subscribed before reading, so that nothing falls between.
			var err error
			if events, err = s.agent.Subscribe(ctx, ""); err != nil {
				return nil, s.broken(out, err)
			}
		}
		for more := true; more; {
			records, err := s.agent.Audit(ctx, next)
			if err != nil {
				return nil, s.broken(out, err)
			}
			if out == nil {
				out = newStream(c, ndjsonType)
			}
			for r, err := range records {
				if err != nil {
					return nil, s.broken(out, err)
				}
				if out.record(r) != nil {
					return nil, nil // the caller has gone
				}
				next = r.Seq + 1
			}
			if out.flush() != nil || !follow {
				return nil, nil
			}
			more = waitForRecord(events, next)
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		// Too slow for the subscription: take a new one.
	}
}

// waitForRecord returns true when there is a record to read from next on, and
// false when the subscription has ended.
func waitForRecord(events <-chan api.Event, next uint64) bool {
	for e := range events {
		if e.Audit != nil && e.Audit.Seq >= next {
			return true
		}
	}
	return false
}

// broken reports an error of a stream: as an answer when none has begun, else
// by breaking the connection, because the end of a stream means that it is
// complete.
func (s *Server) broken(out *stream, err error) error {
	if out == nil {
		return err
	}
	s.log.Error("audit stream broken", "error", err)
	panic(http.ErrAbortHandler)
}
