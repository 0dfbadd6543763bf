package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	retrieverv1 "murphey.dev/gateway/gen/murphey/retriever/v1"
	"murphey.dev/gateway/internal/certificates"
	"murphey.dev/gateway/internal/settings"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	made := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made.certificate, made.pem = signed(t, template, template, &made.key.PublicKey, made.key)
	return made
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, []byte) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue writes a certificate for 127.0.0.1 and its key into a folder, in the places of those that are there.
func (a *authority) issue(t *testing.T, folder string, serial int64) (certificate, key string) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	_, chain := signed(t, template, a.certificate, &private.PublicKey, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, certificate, chain)
	return certificate, key
}

func (a *authority) written(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	write(t, path, a.pem)
	return path
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// looksAlways has files read at each connection.
func looksAlways(t *testing.T) {
	t.Helper()
	before := certificates.LookAgainAfter
	certificates.LookAgainAfter = 0
	t.Cleanup(func() { certificates.LookAgainAfter = before })
}

func TestClientsAreAnsweredOverTLSByHTTPAndByGRPC(t *testing.T) {
	trusted, folder := newAuthority(t), t.TempDir()
	mesh, gateway := start(t, func(s *settings.Settings) { s.TLS.Certificate, s.TLS.Key = trusted.issue(t, folder, 2) })
	mesh.retriever.search = func(context.Context, *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error) {
		return &retrieverv1.SearchResponse{IndexVersion: "1"}, nil
	}
	config := &tls.Config{RootCAs: trusted.pool()}
	for name, protocol := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetHTTP2(true) },
	} {
		protocols := &http.Protocols{}
		protocol(protocols)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config.Clone(), Protocols: protocols}}
		response, err := client.Get("https://" + gateway.address + "/healthz")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Proto != name {
			t.Errorf("%s: got %d by %s", name, response.StatusCode, response.Proto)
		}
	}
	conn, err := grpc.NewClient(gateway.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := retrieverv1.NewRetrieverServiceClient(conn).Search(t.Context(), &retrieverv1.SearchRequest{}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	if response, err := http.Get(gateway.url + "/healthz"); err == nil {
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			t.Error("plain text was answered")
		}
	}
}

func TestARenewedCertificateIsShownWithoutARestart(t *testing.T) {
	looksAlways(t)
	trusted, folder := newAuthority(t), t.TempDir()
	_, gateway := start(t, func(s *settings.Settings) { s.TLS.Certificate, s.TLS.Key = trusted.issue(t, folder, 2) })
	shown := func() int64 {
		conn, err := tls.Dial("tcp", gateway.address, &tls.Config{RootCAs: trusted.pool(), ServerName: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := shown(); got != 2 {
		t.Errorf("got %d", got)
	}
	write(t, filepath.Join(folder, "cert.pem"), []byte("half"))
	if got := shown(); got != 2 {
		t.Errorf("half a change was taken: %d", got)
	}
	trusted.issue(t, folder, 3)
	if got := shown(); got != 3 {
		t.Errorf("got %d", got)
	}
}

func TestServicesAreCalledOverMutualTLSAndOnlyThoseOfTheirAuthority(t *testing.T) {
	looksAlways(t)
	trusted, other := newAuthority(t), newAuthority(t)
	certificate, key := trusted.issue(t, t.TempDir(), 2)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	mesh := startMesh(t, func(m *mesh) {
		m.credentials = credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool(),
		})
	})
	mesh.retriever.search = func(context.Context, *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error) {
		return &retrieverv1.SearchResponse{}, nil
	}
	searched := func(believed, shown *authority) codes.Code {
		gateway := startGateway(t, mesh, func(s *settings.Settings) {
			s.TLS.ServicesCA = believed.written(t)
			if shown != nil {
				s.TLS.ServicesCertificate, s.TLS.ServicesKey = shown.issue(t, t.TempDir(), 4)
			}
		})
		client := retrieverv1.NewRetrieverServiceClient(gateway.dial(t))
		_, err := client.Search(t.Context(), &retrieverv1.SearchRequest{})
		return status.Code(err)
	}
	if got := searched(trusted, trusted); got != codes.OK {
		t.Errorf("got %v", got)
	}
	for name, got := range map[string]codes.Code{
		"services of another authority": searched(other, trusted),
		"a certificate of another":      searched(trusted, other),
		"no certificate":                searched(trusted, nil),
	} {
		if got != codes.Unavailable {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
