package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	"murphey.dev/gateway/internal/settings"
)

func answering(_ context.Context, _ *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
	return &orchestratorv1.AnswerResponse{}, nil
}

func TestPagesOfOtherOriginsMayNotCallUnlessNamed(t *testing.T) {
	const origin = "https://app.example"
	for _, test := range []struct {
		origins []string
		status  int
		allowed string
	}{
		{nil, http.StatusForbidden, ""},
		{[]string{"https://other.example"}, http.StatusForbidden, ""},
		{[]string{origin}, http.StatusOK, origin},
		{[]string{"*"}, http.StatusOK, "*"},
	} {
		mesh, gateway := start(t, func(s *settings.Settings) { s.CORSOrigins = test.origins })
		mesh.orchestrator.answer = answering
		response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader("{}"), "Origin", origin, "Sec-Fetch-Site", "cross-site")
		if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != test.status || got != test.allowed {
			t.Errorf("%v: got %d, %q", test.origins, response.StatusCode, got)
		}
		preflight := send(t, "OPTIONS", gateway.url+"/v1/answers", nil,
			"Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
		if got := preflight.Header.Get("Access-Control-Allow-Origin"); got != test.allowed {
			t.Errorf("%v: preflight got %d, %q", test.origins, preflight.StatusCode, got)
		}
	}
}

func TestANameThatIsNotOursIsRefused(t *testing.T) {
	mesh, gateway := start(t, func(s *settings.Settings) { s.AllowedHosts = []string{"murphey.example"} })
	mesh.orchestrator.answer = answering
	for host, want := range map[string]int{
		"localhost:80": 200, "[::1]:7080": 200, "127.0.0.1": 200, "murphey.example": 200, "rebound.example:7080": 421,
	} {
		response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader("{}"), "Host", host)
		if response.StatusCode != want {
			t.Errorf("%s: got %d", host, response.StatusCode)
		}
	}
	response := send(t, "GET", gateway.url+"/openapi.json", nil, "Host", "rebound.example")
	expectError(t, response, http.StatusMisdirectedRequest, codes.PermissionDenied, "--allowed-hosts")
}

func TestHealthzSaysWhichServiceIsDown(t *testing.T) {
	mesh, gateway := start(t)
	response := send(t, "GET", gateway.url+"/healthz", nil)
	expectJSON(t, response, http.StatusOK, `{"status":"SERVING","services":{"orchestrator":{"status":"SERVING"},
		"ingest":{"status":"SERVING"},"retriever":{"status":"SERVING"},"generator":{"status":"SERVING"}}}`)

	mesh.servers["ingest"].Stop()
	response = send(t, "GET", gateway.url+"/healthz", nil)
	var answer struct {
		Status   string
		Services map[string]struct{ Status, Error string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 503 || answer.Status != "NOT_SERVING" || answer.Services["retriever"].Status != "SERVING" ||
		answer.Services["ingest"].Status != "NOT_SERVING" || !strings.Contains(answer.Services["ingest"].Error, "The ingest service cannot be reached") {
		t.Errorf("got %d %+v", response.StatusCode, answer)
	}
}

func TestTheGatewayStartsBeforeItsServices(t *testing.T) {
	mesh := &mesh{targets: map[string]string{}}
	reserved := listen(t)
	for _, service := range settings.Services {
		mesh.targets[service.Name] = reserved.Addr().String()
	}
	_ = reserved.Close()
	gateway := startGateway(t, mesh)
	response := send(t, "GET", gateway.url+"/v1/jobs", nil)
	expectError(t, response, http.StatusServiceUnavailable, codes.Unavailable, "The ingest service cannot be reached")
}

func TestOpenAPIDescribesEveryPathAndItsReferencesResolve(t *testing.T) {
	_, gateway := start(t)
	response := send(t, "GET", gateway.url+"/openapi.json", nil)
	var document struct {
		Paths       map[string]map[string]any
		Definitions map[string]any
	}
	body := text(t, response)
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range map[string][]string{
		"/v1/answers": {"post"}, "/v1/answers:stream": {"post"}, "/v1/search": {"post"}, "/v1/rerank": {"post"}, "/v1/documents": {"get", "post"},
		"/v1/collections/{collection}/documents/{document}":          {"get", "delete"},
		"/v1/collections/{collection}/documents/{document}:download": {"get"},
		"/v1/jobs/{job}:watch": {"get"}, "/v1/conversations": {"get", "post"}, "/healthz": {"get"},
	} {
		for _, method := range methods {
			if document.Paths[path][method] == nil {
				t.Errorf("%s %s is missing", method, path)
			}
		}
	}
	for _, piece := range strings.Split(body, `"#/definitions/`)[1:] {
		if name, _, _ := strings.Cut(piece, `"`); document.Definitions[name] == nil {
			t.Errorf("%s is not defined", name)
		}
	}
	if strings.Contains(body, "GeneratorService") {
		t.Error("the generator is internal")
	}
}

// streamUntil streams the steps and tells when it ended, by itself or cut off.
func streamUntil(steps <-chan *orchestratorv1.StreamAnswerResponse, ended chan<- error) func(*orchestratorv1.StreamAnswerRequest, answerStream) error {
	return func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
		for {
			select {
			case message, more := <-steps:
				if !more {
					ended <- nil
					return nil
				}
				if err := stream.Send(message); err != nil {
					return err
				}
			case <-stream.Context().Done():
				ended <- stream.Context().Err()
				return stream.Context().Err()
			}
		}
	}
}

func TestStoppingLetsRunningCallsEnd(t *testing.T) {
	mesh, gateway := start(t, func(s *settings.Settings) { s.Drain = patience })
	steps, ended := make(chan *orchestratorv1.StreamAnswerResponse, 1), make(chan error, 1)
	mesh.orchestrator.stream = streamUntil(steps, ended)
	steps <- started("a1")
	body := lines(send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader("{}")))
	arrives(t, body, "the first message")

	ctx, leave := context.WithCancel(t.Context())
	watcher, err := healthpb.NewHealthClient(gateway.dial(t)).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	expectHealth(t, watcher, healthpb.HealthCheckResponse_SERVING)
	gateway.stop()
	expectHealth(t, watcher, healthpb.HealthCheckResponse_NOT_SERVING)
	leave()

	steps <- delta("last")
	if line := arrives(t, body, "the last message"); !strings.Contains(line, "last") {
		t.Errorf("got %q", line)
	}
	close(steps)
	if err := arrives(t, ended, "the call's end"); err != nil {
		t.Errorf("the call was cut off: %v", err)
	}
	arrives(t, gateway.stopped, "the stop")
	if _, err := net.DialTimeout("tcp", gateway.address, time.Second); err == nil {
		t.Error("it still listens")
	}
}

func TestStoppingCutsOffWhatOutlastsTheDrain(t *testing.T) {
	mesh, gateway := start(t) // with a drain of 0.2 s
	ended := make(chan error, 2)
	mesh.orchestrator.stream = func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
		err := stream.Send(started("a1"))
		<-stream.Context().Done()
		ended <- errors.Join(err, stream.Context().Err())
		return stream.Context().Err()
	}
	body := lines(send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader("{}")))
	arrives(t, body, "the first message")
	stream, err := orchestratorv1.NewOrchestratorServiceClient(gateway.dial(t)).StreamAnswer(t.Context(), &orchestratorv1.StreamAnswerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	gateway.stop()
	arrives(t, gateway.stopped, "the stop")
	for range 2 {
		if err := arrives(t, ended, "the call's end"); err == nil {
			t.Error("the call ended by itself")
		}
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		t.Error("a stream that was cut off looked whole")
	}
}
