package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	"murphey.dev/gateway/internal/settings"
)

func impatient(s *settings.Settings) { s.SlowRequest = 200 * time.Millisecond }

// dialed is a connection on which something was sent and nothing follows.
func dialed(t *testing.T, address, sent string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, sent); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestAHeadThatNeverEndsIsGivenUp(t *testing.T) {
	_, gateway := start(t, impatient)
	for name, sent := range map[string]string{
		"nothing":       "",
		"half a line":   "GET /v1/docu",
		"half a head":   "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ",
		"half of HTTP2": "PRI * HTTP/2.0\r\n\r\nS",
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialed(t, gateway.address, sent)
			if _, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
	if got := send(t, "GET", gateway.url+"/healthz", nil); got.StatusCode != http.StatusOK {
		t.Errorf("others get %d", got.StatusCode)
	}
}

func TestAHeadThatComesLetterByLetterIsGivenUp(t *testing.T) {
	_, gateway := start(t, impatient)
	conn := dialed(t, gateway.address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ")
	ended := make(chan bool, 1)
	go func() {
		_, _ = io.ReadAll(conn)
		ended <- true
	}()
	for {
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
			if _, err := io.WriteString(conn, "a"); err != nil {
				return // given up
			}
		}
	}
}

func TestABodyThatStandsStillIsGivenUp(t *testing.T) {
	_, gateway := start(t, impatient)
	conn := dialed(t, gateway.address, "POST /v1/answers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+
		"Content-Length: 1000\r\n\r\n{\"question\": ")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && response.StatusCode < 400 {
		t.Errorf("got %d", response.StatusCode)
	}
	if _, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestAnAnswerMayTakeLongerThanItsRequest(t *testing.T) {
	mesh, gateway := start(t, impatient)
	mesh.orchestrator.stream = func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
		for _, id := range []string{"a1", "a2", "a3"} {
			if err := stream.Send(started(id)); err != nil {
				return err
			}
			select {
			case <-stream.Context().Done():
				return fmt.Errorf("cut off: %w", stream.Context().Err())
			case <-time.After(250 * time.Millisecond):
			}
		}
		return nil
	}
	response := send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{"question": {"text": "a"}}`))
	got := text(t, response)
	if response.StatusCode != http.StatusOK || strings.Count(got, "answerId") != 3 {
		t.Errorf("got %d: %s", response.StatusCode, got)
	}
}

func TestAHeadThatIsTooLargeIsRefused(t *testing.T) {
	_, gateway := start(t)
	response := send(t, "GET", gateway.url+"/healthz", nil, "X-Large", strings.Repeat("a", 80<<10))
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", response.StatusCode)
	}
}
