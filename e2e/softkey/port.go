package softkey

import (
	"context"
	"encoding/binary"
	"io"
	"sync/atomic"
	"time"
)

// Port is a key that is plugged in.
type Port struct {
	// Path is what libfido2 opens.
	Path string

	key    *Key
	pty    *pty
	ctx    context.Context // until the key is pulled out
	pull   context.CancelFunc
	gone   chan struct{} // closed when all is over
	in     chan []byte   // reports from the host
	blinks chan struct{}
	cycles chan chan struct{}

	// What follows is the loop's own.
	assembler assembler
	slow      *time.Timer // runs while a message is incomplete
	last      uint32      // channel given out
	locked    uint32
	until     time.Time // the lock holds
	run       *running
	held      [][]byte // an answer that waits for the next report
	drips     [][]byte
	dead      bool
}

// running is a command that is being carried out, or is said to be.
type running struct {
	m       message
	fault   Fault
	cancel  context.CancelFunc
	done    chan []byte // nil if nobody works on it
	pace    *time.Ticker
	waiting atomic.Bool // for the owner
}

// Plug plugs the key in, which powers it up. If it is plugged in elsewhere it is
// pulled out there first.
func (k *Key) Plug() (*Port, error) {
	k.mu.Lock()
	before := k.port
	k.mu.Unlock()
	if before != nil {
		before.Unplug()
	}
	pty, err := openPTY()
	if err != nil {
		return nil, err
	}
	p := &Port{
		Path: pty.path, key: k, pty: pty, gone: make(chan struct{}), in: make(chan []byte), blinks: make(chan struct{}, 1),
		cycles: make(chan chan struct{}), slow: time.NewTimer(time.Hour),
	}
	p.slow.Stop()
	p.ctx, p.pull = context.WithCancel(context.Background())
	k.mu.Lock()
	k.powerUp()
	k.port = p
	k.mu.Unlock()
	go p.read()
	go p.serve()
	return p, nil
}

// Unplug pulls the key out, amid whatever it does. The key can be plugged in again,
// and has then another path.
func (p *Port) Unplug() {
	p.pull()
	<-p.gone
}

// Gone is closed once the key is out, also when a fault pulled it.
func (p *Port) Gone() <-chan struct{} { return p.gone }

// PowerCycle takes the key's power away for a moment: as pulled out and plugged in
// again, with the same path.
func (p *Port) PowerCycle() {
	done := make(chan struct{})
	select {
	case p.cycles <- done:
		<-done
	case <-p.gone:
	}
}

// read ends when the pty is closed.
func (p *Port) read() {
	defer close(p.in)
	for {
		r := make([]byte, 1+reportSize)
		if _, err := io.ReadFull(p.pty.master, r); err != nil {
			return
		}
		select {
		case p.in <- r[1:]:
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Port) serve() {
	defer close(p.gone)
	defer p.down()
	for p.ctx.Err() == nil {
		var done chan []byte
		var pace <-chan time.Time
		if p.run != nil {
			done, pace = p.run.done, p.run.pace.C
		}
		select {
		case <-p.ctx.Done():
		case r, open := <-p.in:
			if !open {
				return
			}
			p.report(r)
		case answer := <-done:
			run := p.end()
			p.answer(run.m, run.fault, answer)
		case <-pace:
			p.tick()
		case <-p.blinks:
			p.alive()
		case <-p.slow.C:
			if p.assembler.open {
				p.assembler.open = false
				p.refuse(refusal{p.assembler.m.channel, hidTimeout})
			}
		case cycled := <-p.cycles:
			p.abort()
			p.assembler, p.last, p.locked, p.held, p.dead = assembler{}, 0, 0, nil, false
			p.key.powerDown()
			p.pty.flush()
			p.key.mu.Lock()
			p.key.powerUp()
			p.key.mu.Unlock()
			close(cycled)
		}
	}
}

// down ends everything. The pty goes first: that is what the host sees.
func (p *Port) down() {
	p.pull()
	p.pty.close()
	p.abort()
	p.key.powerDown()
	for range p.in {
	}
	p.slow.Stop()
	p.key.mu.Lock()
	if p.key.port == p {
		p.key.port = nil
	}
	p.key.mu.Unlock()
}

func (k *Key) powerDown() {
	k.mu.Lock()
	power := k.power
	k.mu.Unlock()
	power.off()
	power.waits.Wait()
}

func (p *Port) report(r []byte) {
	if p.dead {
		return
	}
	channel := binary.BigEndian.Uint32(r)
	if channel != broadcast {
		p.release()
	}
	first := r[4]&isFirst != 0
	if known := channel != 0 && channel <= p.last; !known && (channel != broadcast || first && r[4] != hidInit|isFirst) {
		if first {
			p.refuse(refusal{channel, hidInvalidChannel})
		}
		return
	}
	if p.run != nil && channel != p.run.m.channel && first && r[4] != hidInit|isFirst {
		p.refuse(refusal{channel, hidBusy})
		return
	}
	m, refused := p.assembler.feed(r)
	if p.assembler.open {
		p.slow.Reset(betweenTime)
	} else {
		p.slow.Stop()
	}
	switch {
	case refused != nil:
		p.refuse(*refused)
	case m != nil:
		p.message(*m)
	}
}

// release sends an answer that was held back.
func (p *Port) release() {
	for _, r := range p.held {
		p.pty.write(r)
	}
	p.held = nil
}

func (p *Port) refuse(r refusal) {
	for _, report := range (message{r.channel, hidError, []byte{r.code}}).reports() {
		p.pty.write(report)
	}
}

func (p *Port) message(m message) {
	if m.command == hidCancel {
		if p.run != nil && p.run.m.channel == m.channel && p.run.fault.timing != deaf {
			p.run.cancel()
		}
		return
	}
	if p.locked != 0 && time.Now().After(p.until) {
		p.locked = 0
	}
	if m.command != hidInit && (p.run != nil || p.locked != 0 && p.locked != m.channel) {
		p.refuse(refusal{m.channel, hidBusy})
		return
	}
	p.key.mu.Lock()
	step := stepOf(m)
	f := p.key.fault(step)
	p.key.mu.Unlock()
	if f.unplug == unplugBefore {
		p.pull()
		return
	}
	if f.timing == dead {
		p.dead = true
		return
	}
	if m.command == hidInit {
		p.initialise(m, f)
		return
	}
	if f.timing == hang || f.timing == keepForever || f.timing == keepFlood {
		p.run = &running{m: m, fault: f, cancel: func() {}, pace: p.paced(f)}
		return
	}
	if f.status != nil && (m.command == hidCBOR || m.command == hidMessage) {
		p.answer(m, f, f.status)
		return
	}
	p.carryOut(m, f, step)
}

// initialise answers CTAPHID_INIT (CTAP 2.1, 11.2.9.1.3). A host that comes anew
// ends what no command is behind; a command goes on unless it is its own.
func (p *Port) initialise(m message, f Fault) {
	if len(m.data) != 8 {
		p.refuse(refusal{m.channel, hidInvalidLength})
		return
	}
	if p.run != nil && (p.run.done == nil || p.run.m.channel == m.channel) {
		p.abort()
	}
	channel := m.channel
	if channel == broadcast {
		p.pty.flush()
		p.release()
		p.last++
		channel = p.last
	}
	if f.timing == hang {
		return
	}
	capabilities := byte(0x01) // wink
	if p.key.o.Kind != U2FOnly {
		capabilities |= 0x04
	}
	if p.key.o.NoU2F {
		capabilities |= 0x08
	}
	answer := binary.BigEndian.AppendUint32(m.data, channel)
	firmware := p.key.o.Firmware
	p.answer(m, f, append(answer, 2, byte(firmware>>16), byte(firmware>>8), byte(firmware), capabilities))
}

func (p *Port) carryOut(m message, f Fault, step Step) {
	switch {
	case m.command == hidPing:
		p.answer(m, f, m.data)
	case m.command == hidWink:
		p.key.mu.Lock()
		p.key.winks++
		p.key.mu.Unlock()
		p.answer(m, f, nil)
	case m.command == hidLock:
		if len(m.data) != 1 || m.data[0] > lockSeconds {
			p.refuse(refusal{m.channel, hidInvalidLength})
			return
		}
		p.locked, p.until = m.channel, time.Now().Add(time.Duration(m.data[0])*time.Second)
		p.answer(m, f, nil)
	case m.command == hidCBOR && p.key.o.Kind != U2FOnly, m.command == hidMessage && !p.key.o.NoU2F:
		p.start(m, f, step)
	default:
		p.refuse(refusal{m.channel, hidInvalidCommand})
	}
}

// start has the key carry out a command beside the loop.
func (p *Port) start(m message, f Fault, step Step) {
	ctx, cancel := context.WithCancel(p.ctx)
	run := &running{m: m, fault: f, cancel: cancel, done: make(chan []byte, 1), pace: p.paced(f)}
	p.run = run
	c := &call{k: p.key, ctx: ctx, step: step, fault: f, pull: p.pull, waiting: func(is bool) {
		if run.waiting.Store(is); is {
			select {
			case p.blinks <- struct{}{}:
			default:
			}
		}
	}}
	go func() { // ends by done, which end and abort wait for
		p.key.mu.Lock()
		defer p.key.mu.Unlock()
		if m.command == hidCBOR {
			run.done <- c.ctap2(m.data)
		} else {
			run.done <- c.u2fMessage(m.data)
		}
	}()
}

func (p *Port) paced(f Fault) *time.Ticker {
	if f.timing == keepFlood {
		return time.NewTicker(100 * time.Microsecond)
	}
	return time.NewTicker(p.key.o.Keepalive)
}

// end is for a command that is over.
func (p *Port) end() *running {
	run := p.run
	p.run = nil
	run.cancel()
	run.pace.Stop()
	return run
}

// abort ends a command without an answer.
func (p *Port) abort() {
	if p.run == nil {
		return
	}
	if run := p.end(); run.done != nil {
		<-run.done
	}
	p.drips = nil
}

// tick is what happens at the pace of signs of life.
func (p *Port) tick() {
	if len(p.drips) == 0 {
		p.alive()
		return
	}
	p.pty.write(p.drips[0])
	if p.drips = p.drips[1:]; len(p.drips) == 0 {
		p.end()
	}
}

// alive says that the key is at work, or waits for its owner.
func (p *Port) alive() {
	if p.run == nil || p.run.m.command != hidCBOR || p.run.fault.timing == hang || p.drips != nil {
		return
	}
	state := byte(1)
	if p.run.waiting.Load() || p.run.done == nil {
		state = 2
	}
	for _, r := range (message{p.run.m.channel, hidKeepalive, []byte{state}}).reports() {
		p.pty.write(r)
	}
}

// answer sends what the fault makes of an answer.
func (p *Port) answer(m message, f Fault, data []byte) {
	if f.unplug == unplugUnanswered {
		p.pull()
		return
	}
	if f.body != nil {
		data = f.body(data)
	}
	m.data = data
	reports := m.reports()
	if f.wire != nil {
		reports = f.wire(m)
	}
	switch {
	case f.timing == late:
		p.held = reports
		return
	case f.timing == drip:
		p.run = &running{m: m, fault: f, cancel: func() {}, pace: p.paced(f)}
		p.drips = reports
		return
	case f.unplug == unplugMidAnswer:
		reports = spread(m)[:1]
	}
	for _, r := range reports {
		p.pty.write(r)
	}
	if f.unplug == unplugMidAnswer || f.unplug == unplugAfter {
		p.pty.drained()
		p.pull()
	}
}
