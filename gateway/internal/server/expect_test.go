package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// send makes a request and fails the test when there is no answer. Headers are pairs.
func send(t *testing.T, method, url string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func text(t *testing.T, response *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// expectJSON compares status and body; the body's spaces and order of keys do not count.
func expectJSON(t *testing.T, response *http.Response, code int, want string) {
	t.Helper()
	got := text(t, response)
	if response.StatusCode != code {
		t.Errorf("status %d, want %d: %s", response.StatusCode, code, got)
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		t.Errorf("content type %q", response.Header.Get("Content-Type"))
	}
	if canonical(t, got) != canonical(t, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func canonical(t *testing.T, document string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(document), &value); err != nil {
		t.Fatalf("%v in %q", err, document)
	}
	var compact bytes.Buffer
	if err := json.NewEncoder(&compact).Encode(value); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

// expectError checks an error's HTTP status, gRPC code and words.
func expectError(t *testing.T, response *http.Response, httpStatus int, code codes.Code, says string) {
	t.Helper()
	got := text(t, response)
	var failure struct {
		Code    codes.Code
		Message string
		Details []any
	}
	if err := json.Unmarshal([]byte(got), &failure); err != nil {
		t.Fatalf("status %d, %v in %q", response.StatusCode, err, got)
	}
	if response.StatusCode != httpStatus || failure.Code != code || !strings.Contains(failure.Message, says) {
		t.Errorf("status %d, %s; want %d, code %d, %q", response.StatusCode, got, httpStatus, code, says)
	}
}

// overloaded is an error as the services make them.
func overloaded(t *testing.T) error {
	t.Helper()
	failure, err := status.New(codes.ResourceExhausted, "32 requests run already.").WithDetails(
		&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "murphey", Metadata: map[string]string{"service": "orchestrator"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	)
	if err != nil {
		t.Fatal(err)
	}
	return failure.Err()
}

// arrives waits for a value and fails the test when it does not come.
func arrives[T any](t *testing.T, channel <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-channel:
		return value
	case <-time.After(patience):
		t.Fatalf("%s did not come within %s", what, patience)
		panic("unreachable")
	}
}
