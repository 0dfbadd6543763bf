package rest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

// forwardedHeaders become metadata. Authorization, Grpc-Timeout (as the deadline), X-Forwarded-For and X-Forwarded-Host do so
// by themselves; nothing else gets through, above all no Grpc-Metadata-*.
var forwardedHeaders = map[string]bool{"Traceparent": true, "Tracestate": true, "X-Api-Key": true, "X-Murphey-Priority": true}

func incomingHeader(name string) (string, bool) {
	return strings.ToLower(name), forwardedHeaders[textproto.CanonicalMIMEHeaderKey(name)]
}

func noHeader(string) (string, bool) { return "", false }

// acceptsEvents reduces Accept to text/event-stream where that is among what the client takes, because grpc-gateway compares
// the whole header.
func acceptsEvents(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for value := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
			if mediaType, _, err := mime.ParseMediaType(value); err == nil && mediaType == eventStream {
				r.Header.Set("Accept", eventStream)
				break
			}
		}
		next.ServeHTTP(w, r)
	})
}

// requestState is what an error handler must know of the request beyond what grpc-gateway hands it.
type requestState struct {
	body       io.Reader // of the request, without its limit
	connection *http.ResponseController
	waits      bool  // the client sends its body only when it is read
	tooLarge   int64 // the limit that the body went over, 0 while it has not
}

// drain reads and drops what is left of the body, so that a client which sends all before it reads gets to read the answer
// instead of a broken connection. It also takes back the deadline of reads, for the connection's next request.
func (s *requestState) drain() {
	if s.body == nil || s.waits {
		return
	}
	// Connections that know no deadline, as in tests, wait as long as it takes.
	_ = s.connection.SetReadDeadline(time.Now().Add(drainFor))
	_, _ = io.Copy(io.Discard, s.body)
	_ = s.connection.SetReadDeadline(time.Time{})
	s.body = nil
}

type requestStateKey struct{}

// drainFor bounds how long the rest of a body is waited for.
const drainFor = 10 * time.Second

func stateOf(ctx context.Context) *requestState {
	if state, ok := ctx.Value(requestStateKey{}).(*requestState); ok {
		return state
	}
	return &requestState{}
}

// withRequestState bounds the body, notes when that bound is hit, and sets the headers that every answer has.
func withRequestState(limits Limits, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := &requestState{body: r.Body, connection: http.NewResponseController(w)}
		state.waits = strings.EqualFold(r.Header.Get("Expect"), "100-continue")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		limit, body := limits.JSONBytes, r.Body
		if r.Method == http.MethodPost && r.URL.Path == uploadPath {
			limit = limits.UploadBytes // and it has a patience of its own
		} else if limits.BodyIdle > 0 {
			body = &patientBody{r.Body, state.connection, limits.BodyIdle}
		}
		r.Body = &notedBody{http.MaxBytesReader(w, body, limit), state}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestStateKey{}, state)))
	})
}

type notedBody struct {
	io.ReadCloser
	state *requestState
}

func (b *notedBody) Read(buffer []byte) (int, error) {
	b.state.waits = false
	read, err := b.ReadCloser.Read(buffer)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		b.state.tooLarge = tooLarge.Limit
	}
	return read, err
}
