package macos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Flags of CFUserNotificationCreate.
const (
	plainLevel  = 3 // no icon of a warning
	secureField = 1 << 16
)

var (
	errNoWindow = errors.New("the system shows no window")
	errText     = errors.New("the system does not take a text")
)

var (
	cfNotificationCreate  func(allocator Ref, timeout float64, flags uint64, failed *int32, parts Ref) Ref
	cfNotificationReceive func(notification Ref, timeout float64, flags *uint64) int32
	cfNotificationValue   func(notification, key Ref, index int) Ref
	cfNotificationCancel  func(notification Ref) int32

	partNames = map[string]Ref{
		"AlertHeader": 0, "AlertMessage": 0, "DefaultButtonTitle": 0, "AlternateButtonTitle": 0, "OtherButtonTitle": 0,
		"TextFieldTitles": 0, "TextFieldValues": 0, "PopUpTitles": 0, "AlertTopMost": 0,
	}
)

var notifications = sync.OnceValue(func() error {
	handle, err := foundation()
	if err != nil {
		return err
	}
	_, err = bind(frameworks+"CoreFoundation.framework/CoreFoundation", map[string]any{
		"CFUserNotificationCreate": &cfNotificationCreate, "CFUserNotificationReceiveResponse": &cfNotificationReceive,
		"CFUserNotificationGetResponseValue": &cfNotificationValue, "CFUserNotificationCancel": &cfNotificationCancel,
	})
	for name := range partNames {
		if err == nil {
			partNames[name], err = constant(handle, "kCFUserNotification"+name+"Key")
		}
	}
	return err
})

// Show shows an alert until it is answered, ctx ends or Until comes; the latter
// two come back as a cancelled one.
func Show(ctx context.Context, a Alert) (Reply, error) {
	if err := notifications(); err != nil {
		return Reply{}, err
	}
	parts, err := a.parts()
	defer release(parts)
	if err != nil {
		return Reply{}, err
	}
	flags := uint64(plainLevel)
	if a.Field != "" && a.Secure {
		flags |= secureField
	}

	// A window without an end would outlive an agent that is killed.
	left := time.Hour
	if !a.Until.IsZero() {
		left = max(time.Until(a.Until), time.Millisecond)
	}
	var failed int32
	note := cfNotificationCreate(0, left.Seconds(), flags, &failed, parts)
	if note == 0 || failed != 0 {
		release(note)
		return Reply{}, fmt.Errorf("%w (%d)", errNoWindow, failed)
	}
	defer release(note)

	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		cfNotificationCancel(note)
	})
	defer func() {
		if !stop() {
			<-cancelled // it is still ours until then
		}
	}()
	var reply Reply
	if cfNotificationReceive(note, left.Seconds()+1, &reply.Flags) != 0 {
		cfNotificationCancel(note)
		return Reply{}, errNoWindow
	}
	if a.Field != "" {
		reply.Typed = bytes(cfNotificationValue(note, partNames["TextFieldValues"], 0), a.MaxTyped)
	}
	return reply, nil
}

// parts is the alert as the system wants it. One that lacks something, or has its
// choices in other places, is none.
func (a Alert) parts() (Ref, error) {
	parts := cfDictionaryCreate(0, 0, keyCallbacks, valueCallbacks)
	set := func(name string, value Ref) error {
		if value == 0 || parts == 0 {
			return errText
		}
		cfDictionarySet(parts, partNames[name], value)
		return nil
	}
	for name, s := range map[string]string{
		"AlertHeader": a.Header, "AlertMessage": a.Message,
		"DefaultButtonTitle": a.Default, "AlternateButtonTitle": a.Alternate, "OtherButtonTitle": a.Other,
	} {
		if s == "" {
			continue
		}
		value := text(s)
		defer release(value)
		if err := set(name, value); err != nil {
			return parts, err
		}
	}
	lists := map[string][]string{"PopUpTitles": a.Choices}
	if a.Field != "" {
		lists["TextFieldTitles"] = []string{a.Field}
	}
	for name, list := range lists {
		if len(list) == 0 {
			continue
		}
		value, err := array(list)
		defer release(value)
		if err != nil {
			return parts, err
		}
		if err := set(name, value); err != nil {
			return parts, err
		}
	}
	return parts, set("AlertTopMost", booleanTrue)
}

// array makes a list of strings.
func array(list []string) (Ref, error) {
	made := cfArrayCreate(0, 0, arrayCallbacks)
	for _, s := range list {
		item := text(s)
		defer release(item)
		if item == 0 || made == 0 {
			return made, errText
		}
		cfArrayAppend(made, item)
	}
	return made, nil
}
