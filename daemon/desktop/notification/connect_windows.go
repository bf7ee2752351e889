package notification

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"countersign.dev/daemon/desktop/notification/toast"
)

const (
	appName = "Countersign"
	appID   = "Countersign.Agent" // the AppUserModelID

	answerWithin = 5 * time.Second
	leaveWithin  = time.Second
)

var errOff = errors.New("notifications of Countersign are switched off in Windows")

// Look says whether there are notifications. They never have buttons: pressing
// one would start a COM server of ours, which there is none of.
func Look(ctx context.Context) (buttons bool, err error) {
	s := start()
	defer s.Disconnect()
	return false, s.do(ctx, s.open)
}

// Connect connects to the notifications of Windows, and takes away what an
// earlier agent has left there.
func Connect(ctx context.Context) (Server, error) {
	s := start()
	err := s.do(ctx, func() error {
		if err := s.open(); err != nil {
			return err
		}
		s.sweep()
		return nil
	})
	if err != nil {
		s.Disconnect()
		return nil, err
	}
	return s, nil
}

// server is the notifications of Windows. Its objects belong to one thread,
// which does one job at a time: a job cannot be cancelled, so nobody waits for it
// longer than they want to.
type server struct {
	jobs    chan job
	leaving chan struct{}
	leave   sync.Once
	ended   chan struct{} // the thread has
	events  chan Event
	gone    chan struct{}
	once    sync.Once // closes gone

	// Of the thread.
	ready    error // why the runtime cannot be used
	notifier *object
	factory  *object
	notes    map[ID]*object
	last     ID
}

type job struct {
	do   func() error
	done chan<- error
}

func start() *server {
	s := &server{
		jobs: make(chan job), leaving: make(chan struct{}), ended: make(chan struct{}),
		events: make(chan Event), gone: make(chan struct{}), notes: map[ID]*object{},
	}
	go s.work()
	return s
}

func (s *server) Buttons() bool         { return false }
func (s *server) Events() <-chan Event  { return s.events }
func (s *server) Gone() <-chan struct{} { return s.gone }

// work is the thread.
func (s *server) work() {
	runtime.LockOSThread() // never unlocked: the thread ends with it
	defer close(s.ended)
	defer close(s.events)
	s.ready = initialize()
	if s.ready == nil {
		defer procRoUninitialize.Call()
	}
	for {
		select {
		case j := <-s.jobs:
			j.done <- j.do()
		case <-s.leaving:
			for _, note := range s.notes {
				s.hide(note)
			}
			s.factory.release()
			s.notifier.release()
			return
		}
	}
}

// do has the thread do something, and waits for a bounded time.
func (s *server) do(ctx context.Context, what func() error) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	done := make(chan error, 1)
	select {
	case s.jobs <- job{what, done}:
	case <-s.leaving:
		return ErrGone
	case <-ctx.Done():
		return s.hangs(ctx)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return s.hangs(ctx)
	}
}

// hangs ends the conversation with a service that does not answer in time.
func (s *server) hangs(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.once.Do(func() { close(s.gone) })
		return ErrGone
	}
	return ctx.Err()
}

// open gets the objects that show notes.
func (s *server) open() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrNone, err)
		}
	}()
	if s.ready != nil {
		return s.ready
	}
	manager, err := factory(classManager, &iidManager)
	if err != nil {
		return err
	}
	defer manager.release()
	if err := register(); err != nil {
		return err
	}
	err = withString(appID, func(h uintptr) (err error) {
		s.notifier, err = manager.with(slotNotifierFor, h)
		return err
	})
	if err != nil {
		return err
	}
	// A name that has never shown anything may have no setting yet.
	if setting, err := s.notifier.number(slotSetting); err == nil && setting != 0 {
		return errOff
	}
	s.factory, err = factory(classToast, &iidToastFactory)
	return err
}

// sweep takes away the notes of an agent that was killed, as far as that can be
// done.
func (s *server) sweep() {
	manager, err := factory(classManager, &iidManager2)
	if err != nil {
		return
	}
	defer manager.release()
	history, err := manager.get(slotHistory)
	if err != nil {
		return
	}
	defer history.release()
	_ = withString(appID, func(h uintptr) error { return history.call(slotClearHistory, h) })
}

// Show shows a note. Windows tells nothing of it afterwards.
func (s *server) Show(ctx context.Context, n Note, replaces ID) (ID, error) {
	document, err := toast.XML(n.Title, n.Body, n.Urgent)
	if err != nil {
		return 0, fmt.Errorf("show a notification: %w", err)
	}
	var id ID
	err = s.do(ctx, func() error {
		note, err := s.make(document)
		if err != nil {
			return fmt.Errorf("show a notification: %w", err)
		}
		if old := s.notes[replaces]; old != nil {
			delete(s.notes, replaces)
			s.hide(old)
		}
		if err := s.notifier.call(slotShow, note.handle()); err != nil {
			note.release()
			return fmt.Errorf("show a notification: %w", err)
		}
		s.last++
		s.notes[s.last] = note
		id = s.last
		return nil
	})
	if err != nil {
		return 0, err // one that is shown later goes with the others
	}
	return id, nil
}

// make makes a note out of its document.
func (s *server) make(document string) (*object, error) {
	xml, err := activate(classXML)
	if err != nil {
		return nil, err
	}
	defer xml.release()
	io, err := xml.query(&iidXMLDocumentIO)
	if err != nil {
		return nil, err
	}
	defer io.release()
	if err := withString(document, func(h uintptr) error { return io.call(slotLoadXML, h) }); err != nil {
		return nil, err
	}
	content, err := xml.query(&iidXMLDocument)
	if err != nil {
		return nil, err
	}
	defer content.release()
	return s.factory.with(slotCreateToast, content.handle())
}

func (s *server) hide(note *object) {
	_ = s.notifier.call(slotHide, note.handle()) // one that the person put away is no error
	note.release()
}

// Close takes a note away. One that does not stand is no error.
func (s *server) Close(ctx context.Context, id ID) error {
	return s.do(ctx, func() error {
		if note := s.notes[id]; note != nil {
			delete(s.notes, id)
			s.hide(note)
		}
		return nil
	})
}

// Disconnect takes the notes away and ends the thread, which is left alone if
// Windows does not answer.
func (s *server) Disconnect() {
	s.leave.Do(func() { close(s.leaving) })
	s.once.Do(func() { close(s.gone) })
	select {
	case <-s.ended:
	case <-time.After(leaveWithin):
	}
}
