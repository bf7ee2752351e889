package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"countersign.dev/ipc/api"
)

// maxLine bounds one event or record.
const maxLine = 1 << 20

// ErrStreamEnded says that the agent ended the stream: it is stopping, or the
// reader was too slow.
var ErrStreamEnded = errors.New("the agent ended the stream")

// Subscribe returns once the agent has confirmed the subscription: nothing that
// happens afterwards is missed. The events end with an error, ErrStreamEnded or
// the context's. A non-empty frontEnd counts as a front end that can ask the
// person for as long as the stream stands; cancel ctx to end it.
func (c *Client) Subscribe(ctx context.Context, frontEnd string) (iter.Seq2[api.Event, error], error) {
	res, err := c.do(ctx, http.MethodGet, api.PathEvents, frontEndQuery(frontEnd), nil)
	if err != nil {
		return nil, err
	}
	lines := newLines(res.Body)
	hello, err := readEvent(lines)
	if err == nil && hello.Type != "hello" {
		err = errors.New("the event stream does not begin with hello")
	}
	if err != nil {
		res.Body.Close()
		return nil, fmt.Errorf("subscribe to events: %w", ended(ctx, err))
	}
	return func(yield func(api.Event, error) bool) {
		defer res.Body.Close()
		if !yield(hello, nil) {
			return
		}
		for {
			e, err := readEvent(lines)
			if err != nil {
				yield(api.Event{}, ended(ctx, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}, nil
}

// AuditOptions say which records are wanted.
type AuditOptions struct {
	From   uint64
	Follow bool // go on with new records until the context ends
	Verify bool // check the chain first; *api.Error "audit_broken" when it is broken
}

// Audit streams the record of decisions, oldest first.
func (c *Client) Audit(ctx context.Context, o AuditOptions) (iter.Seq2[api.AuditRecord, error], error) {
	query := url.Values{}
	if o.From > 0 {
		query.Set("from", strconv.FormatUint(o.From, 10))
	}
	if o.Follow {
		query.Set("follow", "true")
	}
	if o.Verify {
		query.Set("verify", "true")
	}
	res, err := c.do(ctx, http.MethodGet, api.PathAudit, query, nil)
	if err != nil {
		return nil, err
	}
	return func(yield func(api.AuditRecord, error) bool) {
		defer res.Body.Close()
		lines := newLines(res.Body)
		for lines.Scan() {
			var r api.AuditRecord
			err := json.Unmarshal(lines.Bytes(), &r)
			if !yield(r, err) || err != nil {
				return
			}
		}
		switch {
		case lines.Err() != nil:
			yield(api.AuditRecord{}, ended(ctx, lines.Err()))
		case o.Follow:
			yield(api.AuditRecord{}, ended(ctx, io.EOF))
		}
	}, nil
}

func newLines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return s
}

// readEvent reads one Server-Sent Event as our server writes them: id and event
// repeat what the data says.
func readEvent(lines *bufio.Scanner) (e api.Event, err error) {
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case len(line) == 0 && data != nil:
			return e, json.Unmarshal(data, &e)
		case len(line) > 6 && string(line[:6]) == "data: ":
			data = append([]byte(nil), line[6:]...)
		}
	}
	if err := lines.Err(); err != nil {
		return e, err
	}
	return e, io.EOF
}

// ended names the reason that a stream stopped.
func ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrStreamEnded
	default:
		return err
	}
}
