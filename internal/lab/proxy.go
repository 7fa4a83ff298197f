package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Proxy stands between a client and a TCP server and makes the line between them long, dead or silent.
// It delays, and does not limit bandwidth: what is on its way is held in memory, as a long line holds it.
type Proxy struct {
	target   string
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex
	rtt    time.Duration
	closed bool
	open   chan struct{} // closed while data may pass
	links  map[*link]struct{}
}

// NewProxy listens on a free port of 127.0.0.1 and passes every connection on to target; each direction is
// delayed by half of rtt, and a new connection by one rtt, which is what a TCP handshake takes.
func NewProxy(target string, rtt time.Duration) (*Proxy, error) {
	return listenProxy("127.0.0.1:0", target, rtt)
}

func listenProxy(address, target string, rtt time.Duration) (*Proxy, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: listener, rtt: rtt, open: make(chan struct{}), links: map[*link]struct{}{}}
	close(p.open)
	p.done.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port the proxy listens on.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// SetDelay changes the round trip time for all that is read from now on.
func (p *Proxy) SetDelay(rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rtt = rtt
}

// Cut resets every connection there is. New ones are served.
func (p *Proxy) Cut() {
	for _, l := range p.current() {
		l.cut()
	}
}

// Stall holds everything back, on new connections too, and closes nothing: the silence of a pulled cable.
func (p *Proxy) Stall(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stalled := p.stalled(); on && !stalled {
		p.open = make(chan struct{})
	} else if !on && stalled {
		close(p.open)
	}
}

// Close cuts all connections, stops listening and returns when every goroutine has ended.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.done.Wait()
	return err
}

func (p *Proxy) stalled() bool {
	select {
	case <-p.open:
		return false
	default:
		return true
	}
}

func (p *Proxy) current() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var links []*link
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

func (p *Proxy) delay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rtt
}

func (p *Proxy) gate() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := &link{proxy: p, client: conn.(*net.TCPConn), gone: make(chan struct{})}
		if !p.add(l) {
			l.cut()
			return
		}
		p.done.Go(func() { l.serve(); p.remove(l) })
	}
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = struct{}{}
	return !p.closed
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	once   sync.Once
	gone   chan struct{} // closed by cut

	mu     sync.Mutex
	server *net.TCPConn
}

func (l *link) serve() {
	defer l.close()
	if !l.wait(time.Now().Add(l.proxy.delay())) {
		return
	}
	conn, err := net.Dial("tcp", l.proxy.target)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	select {
	case <-l.gone: // cut while it was dialled
		server.Close()
		return
	default:
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(server, l.client) })
	pumps.Go(func() { l.pump(l.client, server) })
	pumps.Wait()
}

// chunk is data on its way; nil data is the end of it.
type chunk struct {
	due  time.Time
	data []byte
}

// pump carries one direction. Reading and writing are apart, so that any amount can be on its way.
func (l *link) pump(to, from *net.TCPConn) {
	line := make(chan chunk, 4096)
	var reader sync.WaitGroup
	reader.Go(func() { l.read(from, line) })
	for c := range line {
		if !l.wait(c.due) {
			break
		}
		if c.data == nil {
			_ = to.CloseWrite()
		} else if _, err := to.Write(c.data); err != nil {
			l.cut()
			break
		}
	}
	reader.Wait()
}

func (l *link) read(from *net.TCPConn, line chan<- chunk) {
	defer close(line)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c := chunk{due: time.Now().Add(l.proxy.delay() / 2)}
		if n > 0 {
			c.data = append([]byte{}, buf[:n]...)
		}
		select {
		case line <- c:
		case <-l.gone:
			return
		}
		if err != nil {
			return
		}
	}
}

// wait returns true once it is due and nothing is stalled, false when the link was cut.
func (l *link) wait(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.gone:
		return false
	}
	select {
	case <-l.proxy.gate():
		return true
	case <-l.gone:
		return false
	}
}

// cut ends both sides at once with a reset; what is on its way is lost.
func (l *link) cut() {
	l.once.Do(func() { close(l.gone) })
	for _, conn := range l.ends() {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

// close ends both sides in order; the kernel still delivers what was written.
func (l *link) close() {
	for _, conn := range l.ends() {
		_ = conn.Close()
	}
}

func (l *link) ends() []*net.TCPConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == nil {
		return []*net.TCPConn{l.client}
	}
	return []*net.TCPConn{l.client, l.server}
}

// ServeProxy runs a proxy on 127.0.0.1:listenPort until ctx ends, for a process of its own. It is controlled
// through the Unix socket control: see ProxyControl.
func ServeProxy(ctx context.Context, listenPort int, target string, rtt time.Duration, control string) error {
	p, err := listenProxy(fmt.Sprintf("127.0.0.1:%d", listenPort), target, rtt)
	if err != nil {
		return err
	}
	defer p.Close()
	if _, err := ProxyControl(control, "status"); err == nil {
		return fmt.Errorf("another proxy answers on %s", control)
	}
	if err := os.Remove(control); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	socket, err := net.Listen("unix", control)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	for {
		conn, err := socket.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go p.answer(conn)
	}
}

func (p *Proxy) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	answer, err := p.obey(strings.Fields(line))
	if err != nil {
		answer = "error " + err.Error()
	}
	fmt.Fprintln(conn, answer)
}

func (p *Proxy) obey(words []string) (string, error) {
	switch command := strings.Join(words, " "); {
	case len(words) == 2 && words[0] == "delay":
		rtt, err := time.ParseDuration(words[1])
		if err != nil || rtt < 0 {
			return "", fmt.Errorf("%q is not a round trip time", words[1])
		}
		p.SetDelay(rtt)
	case command == "cut":
		p.Cut()
	case command == "stall on", command == "stall off":
		p.Stall(command == "stall on")
	case command == "status":
		p.mu.Lock()
		defer p.mu.Unlock()
		return fmt.Sprintf("ok delay %v stalled %t connections %d", p.rtt, p.stalled(), len(p.links)), nil
	default:
		return "", fmt.Errorf("unknown command %q", command)
	}
	return "ok", nil
}

// ProxyControl sends one line to the proxy behind a control socket and returns its answer: "delay 150ms" (a
// round trip time), "cut", "stall on", "stall off" or "status". The answer begins with "ok"; any other is an error.
func ProxyControl(control, line string) (string, error) {
	conn, err := net.DialTimeout("unix", control, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s: no answer: %w", control, err)
	}
	answer = strings.TrimSpace(answer)
	if !strings.HasPrefix(answer, "ok") {
		return answer, fmt.Errorf("%s: %s", control, answer)
	}
	return answer, nil
}
