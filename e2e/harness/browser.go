package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// Browser is one headless Chromium. Pages share the process but nothing else:
// each lives in a profile of its own.
type Browser struct {
	ctx     context.Context // carries the browser, as chromedp wants it
	cancel  context.CancelFunc
	profile string
}

// EvilSite is a host name that the browser resolves to this machine. It stands
// for any site on the internet that is not the org's.
const EvilSite = "login.evil.example"

// StartBrowser starts Chromium with a fresh profile.
func StartBrowser() (*Browser, error) {
	path, err := Chromium()
	if err != nil {
		return nil, err
	}
	profile, err := os.MkdirTemp("", "cs-chromium-")
	if err != nil {
		return nil, err
	}
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("headless", "new"), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-breakpad", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("password-store", "basic"),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("mute-audio", true),
		chromedp.Flag("force-color-profile", "srgb"),
		// Nothing may leave this machine: every name but localhost is either
		// the evil site or unknown.
		chromedp.Flag("host-resolver-rules", "MAP "+EvilSite+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"),
		chromedp.WindowSize(1024, 768),
		chromedp.WSURLReadTimeout(readyTimeout),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) { cmd.SysProcAttr = ownGroup() }),
	}
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox) // Chromium refuses to sandbox root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &Browser{ctx: ctx, profile: profile, cancel: func() { cancel(); stop() }}
	started := make(chan error, 1)
	go func() { started <- chromedp.Do(ctx) }()
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case err = <-started:
	case <-timer.C:
		err = errors.New("it did not answer in time")
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	return b, nil
}

// Version names the browser, e.g. "Chrome/156.0.8078.79".
func (b *Browser) Version() string {
	v, err := chromedp.CallBrowser(b.ctx, browser.GetVersion, cdp.Empty{})
	if err != nil {
		return "unknown version"
	}
	return v.Product
}

// Close ends the browser with everything it started and removes its profile.
func (b *Browser) Close() error {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	err := chromedp.Cancel(ctx)
	cancel()
	b.cancel()
	return errors.Join(err, os.RemoveAll(b.profile))
}
