package notification

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// These run on Windows, and under Wine by `make wine`. Wine has the runtime, and
// nothing that shows notifications.

// The calls by table work, on a class that both have.
func TestRuntime(t *testing.T) {
	s := start()
	defer s.Disconnect()
	err := s.do(t.Context(), func() error {
		if s.ready != nil {
			return s.ready
		}
		preferences, err := factory("Windows.System.UserProfile.GlobalizationPreferences", &windows.GUID{
			Data1: 0x01bf4326, Data2: 0xed37, Data3: 0x4e96, Data4: [8]byte{0xb0, 0xe9, 0xc1, 0x34, 0x0d, 0x1e, 0xa1, 0x58},
		})
		if err != nil {
			return err
		}
		defer preferences.release()
		if _, err := preferences.query(&iidToastFactory); err == nil {
			t.Error("has an interface that it cannot have")
		}
		languages, err := preferences.get(9) // Languages
		if err != nil {
			return err
		}
		defer languages.release()
		if n, err := languages.number(7); err != nil || n < 1 { // Size
			t.Errorf("%d languages, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Without the classes there is no service; with them a note comes and goes.
func TestConnect(t *testing.T) {
	s, err := Connect(t.Context())
	if _, again := Look(t.Context()); (again == nil) != (err == nil) {
		t.Errorf("Look says %v, Connect %v", again, err)
	}
	if err != nil {
		if !errors.Is(err, ErrNone) {
			t.Errorf("got %v, want %v", err, ErrNone)
		}
		return
	}
	if s.Buttons() {
		t.Error("has buttons")
	}
	id, err := s.Show(t.Context(), Note{Title: "Countersign", Body: "a <test> & more"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if id, err = s.Show(t.Context(), Note{Title: "Countersign", Body: "another", Urgent: true}, id); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context(), id); err != nil {
		t.Error(err)
	}
	s.Disconnect()
	if _, open := <-s.Gone(); open {
		t.Error("not gone")
	}
	if _, err := s.Show(t.Context(), Note{Title: "late"}, 0); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

// A runtime that hangs keeps nobody, and ends the server.
func TestHangs(t *testing.T) {
	s := start()
	held := make(chan struct{})
	defer func() { close(held); <-s.ended }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.do(ctx, func() error { <-held; return nil }); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	<-s.Gone()
	began := time.Now()
	s.Disconnect()
	if took := time.Since(began); took > 10*leaveWithin {
		t.Errorf("leaving took %v", took)
	}
}
