package daemon

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"

	"countersign.dev/daemon/audit"
	"countersign.dev/ipc/api"
)

// gaps knows whether the record of decisions can be written, and what is
// missing from it.
type gaps struct {
	mu      sync.Mutex
	err     error // of the last try; nil when it worked
	missing int   // records since the last that was written
}

func (g *gaps) note(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err = err; err != nil {
		g.missing++
	}
}

// record writes a decision down and tells the subscribers. What must not happen
// without a record asks for the error; it is in the log and in the status, too.
func (d *Daemon) record(c *core, r audit.Record) error {
	r.Time = d.now()
	written, err := c.audit.Record(r)
	d.gaps.note(err)
	if err != nil {
		d.log.Error("decision not recorded", "event", r.Event, "error", err)
		return err
	}
	if view := recordView(written); d.hub.listened() {
		d.hub.publish(api.Event{Type: "audit", Audit: &view})
	}
	return nil
}

// recordProblem says why the record cannot be written. It tries first: the disk
// may have room again, and then the record says how much of it is missing.
func (d *Daemon) recordProblem(c *core) error {
	d.gaps.mu.Lock()
	defer d.gaps.mu.Unlock()
	if d.gaps.err == nil {
		return nil
	}
	_, err := c.audit.Record(audit.Record{Time: d.now(), Event: "record_gap", Outcome: "failed",
		Reason: strconv.Itoa(d.gaps.missing) + " records before this one could not be written"})
	if d.gaps.err = err; err == nil {
		d.gaps.missing = 0
	}
	return err
}

// unwritable are the reasons why a system does not take what the agent writes.
var unwritable = []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG, syscall.EIO}

// notWritten puts a failed write of the state into words; nil for other errors.
func notWritten(err error) *api.Error {
	for _, reason := range unwritable {
		if errors.Is(err, reason) {
			return &api.Error{Status: 500, Code: "state_not_written", Message: fmt.Sprintf("the agent cannot write its state: %v", reason),
				Hint: "make room on the disk of the state folder, then try again; nothing was lost"}
		}
	}
	return nil
}
